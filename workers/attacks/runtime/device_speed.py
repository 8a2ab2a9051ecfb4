"""How fast a device computes a network by images per call, and whether XLA is faster. Measured
once and cached on the machine. A task never chooses its own batch, which is part of its key."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.runtime.network import Network
from prunegrid.workers.cache import load, load_speed, save, save_speed
from prunegrid.workers.device import device_name
from prunegrid.workers.keys import digest
from prunegrid.workers.speeds import WORTH, Probe, Speed

SIZES = (16, 32, 64, 128, 256, 512)
#: No larger size is tried once a call takes that long: heartbeats would grow rare.
LONGEST_CALL_S = 1.0
TURNS = 3


def measure_speed(
    model: Any, probe: Probe, *, sizes: Sequence[int] = SIZES, seconds: float = 0.3
) -> Speed:
    """`seconds`: spent on each size. A measurement of the same network's shape, device, thread
    count and TensorFlow is taken from ~/.cache/prunegrid, where it is kept.

    Raises ResourceExhaustedError where not even the first size fits.
    """
    identity = _identity(model, "logits", sizes)
    kept = load_speed(probe, identity)
    if kept is not None:
        return kept
    speeds = _by_size(Network(model), sizes, seconds)
    if not speeds:
        raise tf.errors.ResourceExhaustedError(None, None, f"not even {sizes[0]} images fit")
    found = Speed(
        architecture=probe.architecture,
        dataset=probe.dataset,
        device=device_name(),
        host=socket.gethostname(),
        threads=tf.config.threading.get_intra_op_parallelism_threads(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sizes=tuple(speeds),
        passes_per_s=tuple(round(speed, 1) for speed in speeds.values()),
    )
    save_speed(found, identity)
    return found


def xla_is_faster(
    model: Any,
    *,
    outputs: Literal["logits", "softmax"] = "logits",
    size: int = 128,
    seconds: float = 0.5,
) -> bool:
    """Whether a GPU computes batches of `size` faster by WORTH through XLA; measured once for a
    network shape and device, and cached as `measure_speed` does. False on a CPU, where XLA's
    convolutions lose oneDNN (a third of the speed on two cores)."""
    if not tf.config.list_physical_devices("GPU"):
        return False
    name = f"xla-{_identity(model, outputs, (size,))}"
    if name in _CHOSEN:
        return _CHOSEN[name]
    kept = load(name)
    if isinstance(kept, dict) and "pays" in kept:
        pays = kept["pays"] is True
    else:
        plain, fused = (
            _speed(Network(model, outputs, xla=xla), size, seconds) for xla in (False, True)
        )
        pays = fused > WORTH * plain
        save(name, {"pays": pays, "plain": plain, "xla": fused})
    _CHOSEN[name] = pays
    return pays


#: A process keeps its first choice.
_CHOSEN: dict[str, bool] = {}


def _by_size(network: Network, sizes: Sequence[int], seconds: float) -> dict[int, float]:
    """Images per second by size. Sizes take turns, and the best turn counts: other processes may
    compute meanwhile."""
    best: dict[int, float] = {}
    for turn in range(TURNS):
        for size in sizes if turn == 0 else tuple(best):
            speed = _speed(network, size, seconds / TURNS)
            if speed == 0.0:
                break
            best[size] = max(speed, best.get(size, 0.0))
            if size / speed > LONGEST_CALL_S:
                return best
    return best


def _speed(network: Network, size: int, seconds: float) -> float:
    """Images per second, forward and backward; 0.0 where memory does not suffice, or XLA cannot
    compile the network."""
    margins = network.margin_and_gradient()
    images = tf.constant(np.random.default_rng(0).random((size, *network.shape), np.float32))
    labels = tf.zeros(size, tf.int32)
    refusals: tuple[type[Exception], ...] = (tf.errors.ResourceExhaustedError, MemoryError)
    if network.xla:
        refusals += (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError)
    try:
        margins(images, labels)[0].numpy()
        start, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - start < seconds:
            margins(images, labels)[0].numpy()
            calls += 1
    except refusals:
        return 0.0
    return calls * size / (time.perf_counter() - start)


def _identity(model: Any, outputs: str, sizes: Sequence[int]) -> str:
    devices = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "gpu")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return digest(
        {
            "input": list(model.input_shape[1:]),
            "shapes": [list(weight.shape) for weight in model.weights],
            "outputs": outputs,
            "sizes": list(sizes),
            "devices": devices or [f"{device_name()}, {os.cpu_count()} CPUs"],
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "tensorflow": tf.__version__,
        }
    )

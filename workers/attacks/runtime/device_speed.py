"""How fast a device computes a network by images per call, and whether XLA is faster. Measured
once and cached on the machine. A task never chooses its own batch, which is part of its key."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.runtime.network import Network
from prunegrid.workers.cache import load, load_speed, save, save_speed
from prunegrid.workers.data.base import ImageSplit
from prunegrid.workers.device import device_name
from prunegrid.workers.keys import digest
from prunegrid.workers.speeds import WORTH, Probe, Speed
from prunegrid.workers.training.augmentations import draw_moves
from prunegrid.workers.training.batches import source as source_of
from prunegrid.workers.training.steps import Epoch, Stepper

SIZES = (16, 32, 64, 128, 256, 512)
#: No larger size is tried once a call takes that long: heartbeats would grow rare.
LONGEST_CALL_S = 1.0
TURNS = 3
STEPS = 16  #: of training in one call, at most


def measure_speed(
    model: Any,
    probe: Probe,
    *,
    sizes: Sequence[int] = SIZES,
    seconds: float = 0.3,
    start_s: float = 0.0,
) -> Speed:
    """`seconds`: spent on each size; `start_s`: what starting the process took. A measurement of
    the same network, device, thread count and TensorFlow is taken from ~/.cache/prunegrid, where it
    is kept.

    Raises ResourceExhaustedError where not even the first size fits.
    """
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    kept = load_speed(probe, device_name(), threads)
    if kept is not None:
        return kept
    network = Network(model)
    compile_s = _first_call_s(network, sizes[0])
    speeds = _by_size(network, sizes, seconds)
    if not speeds:
        raise tf.errors.ResourceExhaustedError(None, None, f"not even {sizes[0]} images fit")
    forward = _by_size(network, tuple(speeds), seconds, backward=False)
    known = tuple(size for size in speeds if size in forward)
    found = Speed(
        architecture=probe.architecture,
        dataset=probe.dataset,
        device=device_name(),
        host=socket.gethostname(),
        threads=threads,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sizes=known,
        passes_per_s=tuple(round(speeds[size], 1) for size in known),
        forward_per_s=tuple(round(forward[size], 1) for size in known),
        trained_per_s=round(_trained_per_s(model, probe, known[-1], seconds), 1),
        compile_s=round(compile_s, 2),
        start_s=round(start_s, 2),
    )
    save_speed(found, probe)
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


def _now_s() -> float:
    """On one thread of a CPU its processor's time, which others that compute meanwhile do not
    lengthen."""
    one = tf.config.threading.get_intra_op_parallelism_threads() == 1
    alone = one and not tf.config.list_physical_devices("GPU")
    return time.process_time() if alone else time.perf_counter()


def _by_size(
    network: Network, sizes: Sequence[int], seconds: float, *, backward: bool = True
) -> dict[int, float]:
    """Images per second by size. Sizes take turns, and the best turn counts: other processes may
    compute meanwhile."""
    best: dict[int, float] = {}
    for turn in range(TURNS):
        for size in sizes if turn == 0 else tuple(best):
            speed = _speed(network, size, seconds / TURNS, backward=backward)
            if speed == 0.0:
                break
            best[size] = max(speed, best.get(size, 0.0))
            if size / speed > LONGEST_CALL_S:
                return best
    return best


def _speed(network: Network, size: int, seconds: float, *, backward: bool = True) -> float:
    """Images per second, forward and backward; 0.0 where memory does not suffice, or XLA cannot
    compile the network."""
    refusals: tuple[type[Exception], ...] = (tf.errors.ResourceExhaustedError, MemoryError)
    if network.xla:
        refusals += (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError)
    call = _call(network, size, backward=backward)
    try:
        call()
        start, calls = _now_s(), 0
        while not calls or _now_s() - start < seconds:
            call()
            calls += 1
    except refusals:
        return 0.0
    return calls * size / (_now_s() - start)


def _call(network: Network, size: int, *, backward: bool = True) -> Callable[[], Any]:
    """One pass of `size` images of noise, to its end."""
    noise = np.random.default_rng(0).random((size, *network.shape), np.float32)
    if not backward:
        return lambda: network.logits(noise)
    margins = network.margin_and_gradient()
    images, labels = tf.constant(noise), tf.zeros(size, tf.int32)

    def both() -> Any:  # not a reference to `numpy`: each call is to compute
        return margins(images, labels)[0].numpy()

    return both


def _first_call_s(network: Network, size: int) -> float:
    """Of the first gradient, less a second one; 0.0 where it does not fit."""
    try:
        call = _call(network, size)
        began_s = _now_s()
        call()
        first_s = _now_s() - began_s
        call()
        return max(0.0, 2 * first_s - (_now_s() - began_s))
    except (tf.errors.ResourceExhaustedError, MemoryError):
        return 0.0


def _trained_per_s(model: Any, probe: Probe, most: int, seconds: float) -> float:
    """Images of training steps of the probe's batch, or of `most` where that is less."""
    size = min(probe.batch_size, most)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, *model.input_shape[1:]), np.uint8)
    count = STEPS * size
    split = ImageSplit(images=images, labels=np.zeros(size, np.int32))
    source, order = source_of(split), np.resize(np.arange(size, dtype=np.int32), count)
    epoch = Epoch(
        order=tf.constant(order),
        labels=tf.zeros(count, tf.int32),
        moves=tf.constant(draw_moves(count, probe.augmentation, 0)),
        seed=tf.constant(0, tf.int32),
    )
    stepper = Stepper(model, size, probe.augmentation, None)
    stepper.reset({})

    def run(steps: int) -> float:
        began_s = _now_s()
        # Without a learning rate the weights stay, and losses finite.
        stepper.run(source, source.epoch(order, size), epoch, 0, steps, 0.0)
        return _now_s() - began_s

    run(1)  # compiles
    steps = min(STEPS, max(1, int(seconds / max(run(1), 1e-6))))
    return steps * size / max(min(run(steps) for _ in range(TURNS)), 1e-6)


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

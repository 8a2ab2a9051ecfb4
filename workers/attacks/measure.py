"""How many images per model call a device takes best; measured once, kept on the machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from workers.attacks.network import Network
from workers.keys import digest

SIZES = (16, 32, 64, 128, 256, 512)
#: A larger batch must be this much faster per image to be worth its memory.
WORTH = 1.05


@dataclass(frozen=True, kw_only=True)
class BatchMeasure:
    """`images_per_s[k]` forward and backward passes in batches of `sizes[k]`; sizes that do not
    fit in memory are not in it."""

    sizes: tuple[int, ...]
    images_per_s: tuple[float, ...]

    @property
    def best(self) -> int:
        """The smallest size that no larger one beats by WORTH."""
        chosen = 0
        for k in range(1, len(self.sizes)):
            if self.images_per_s[k] > WORTH * self.images_per_s[chosen]:
                chosen = k
        return self.sizes[chosen]


def measure_batch(
    model: Any,
    *,
    outputs: Literal["logits", "softmax"] = "logits",
    sizes: Sequence[int] = SIZES,
    seconds: float = 0.3,
    cache_dir: Path | None = None,
) -> BatchMeasure:
    """For planning: batch and shard sizes of a grid. Never part of a task: a result must not
    depend on a measurement.

    `seconds`: spent on each size. `cache_dir`: None for ~/.cache/prunegrid. A measurement of the
    same network shape, device, thread count and TensorFlow is taken from there.
    Raises ResourceExhaustedError where not even the first size fits.
    """
    folder = cache_dir or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "prunegrid"
    path = folder.expanduser() / f"batch-{_identity(model, outputs, sizes)}.json"
    try:
        raw = json.loads(path.read_text())
        return BatchMeasure(sizes=tuple(raw["sizes"]), images_per_s=tuple(raw["images_per_s"]))
    except (OSError, ValueError, KeyError):
        pass
    found = _measure(Network(model, outputs), sizes, seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps({"sizes": found.sizes, "images_per_s": found.images_per_s}))
    aside.replace(path)
    return found


def _measure(network: Network, sizes: Sequence[int], seconds: float) -> BatchMeasure:
    look = network.margin_and_gradient()
    done: list[int] = []
    speeds: list[float] = []
    rng = np.random.default_rng(0)
    for size in sizes:
        images = tf.constant(rng.random((size, *network.shape), np.float32))
        labels = tf.zeros(size, tf.int32)
        try:
            look(images, labels)[0].numpy()
            start, calls = time.perf_counter(), 0
            while calls < 2 or time.perf_counter() - start < seconds:
                look(images, labels)[0].numpy()
                calls += 1
        except (tf.errors.ResourceExhaustedError, MemoryError):
            if not done:
                raise
            break
        done.append(size)
        speeds.append(calls * size / (time.perf_counter() - start))
    return BatchMeasure(sizes=tuple(done), images_per_s=tuple(speeds))


def _identity(model: Any, outputs: str, sizes: Sequence[int]) -> str:
    devices = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "gpu")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    shapes = [list(weight.shape) for weight in model.weights]
    return digest(
        {
            "input": list(model.input_shape[1:]),
            "shapes": shapes,
            "outputs": outputs,
            "sizes": list(sizes),
            "devices": devices or [f"cpu-{os.cpu_count()}"],
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "tensorflow": tf.__version__,
        }
    )

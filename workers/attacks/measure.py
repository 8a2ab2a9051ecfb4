"""What a device does best: images per model call, and whether XLA pays; measured once, kept on
the machine.

    python -m workers.attacks.measure cnn5 resnet8 ...

prints a line of JSON per architecture: passes per second by batch, and the batch to put in a
grid's `batch_size`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
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
    """For planning: the batch size of a grid. Never part of a task: a result must not depend on
    a measurement.

    `seconds`: spent on each size. `cache_dir`: None for ~/.cache/prunegrid. A measurement of the
    same network shape, device, thread count and TensorFlow is taken from there.
    Raises ResourceExhaustedError where not even the first size fits.
    """
    path = _folder(cache_dir) / f"batch-{_identity(model, outputs, sizes)}.json"
    try:
        raw = json.loads(path.read_text())
        return BatchMeasure(sizes=tuple(raw["sizes"]), images_per_s=tuple(raw["images_per_s"]))
    except (OSError, ValueError, KeyError):
        pass
    found = _measure(Network(model, outputs), sizes, seconds)
    _keep(path, {"sizes": found.sizes, "images_per_s": found.images_per_s})
    return found


def xla_pays(
    model: Any,
    *,
    outputs: Literal["logits", "softmax"] = "logits",
    size: int = 128,
    seconds: float = 0.5,
    cache_dir: Path | None = None,
) -> bool:
    """Whether a GPU takes batches of `size` faster by WORTH through XLA; measured once for a
    network shape and device, and kept like `measure_batch`'s. Never on a CPU, where convolutions
    lose oneDNN (a third of the speed on two cores)."""
    if not tf.config.list_physical_devices("GPU"):
        return False
    name = f"xla-{_identity(model, outputs, (size,))}"
    if name in _CHOSEN:
        return _CHOSEN[name]
    path = _folder(cache_dir) / f"{name}.json"
    try:
        pays = json.loads(path.read_text())["pays"] is True
    except (OSError, ValueError, KeyError, TypeError):
        plain, fused = (
            _speed(Network(model, outputs, xla=xla), size, seconds) for xla in (False, True)
        )
        pays = fused > WORTH * plain
        _keep(path, {"pays": pays, "plain": plain, "xla": fused})
    _CHOSEN[name] = pays
    return pays


#: A process keeps to what it chose first.
_CHOSEN: dict[str, bool] = {}


def _folder(cache_dir: Path | None) -> Path:
    folder = cache_dir or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "prunegrid"
    return folder.expanduser()


def _keep(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(found))
    aside.replace(path)


def _measure(network: Network, sizes: Sequence[int], seconds: float) -> BatchMeasure:
    done: list[int] = []
    speeds: list[float] = []
    for size in sizes:
        speed = _speed(network, size, seconds)
        if speed == 0.0:
            break
        done.append(size)
        speeds.append(speed)
    if not done:
        raise tf.errors.ResourceExhaustedError(None, None, f"not even {sizes[0]} images fit")
    return BatchMeasure(sizes=tuple(done), images_per_s=tuple(speeds))


def _speed(network: Network, size: int, seconds: float) -> float:
    """Images per second, forward and backward; 0.0 where memory does not suffice, or XLA cannot
    compile the network."""
    look = network.margin_and_gradient()
    images = tf.constant(np.random.default_rng(0).random((size, *network.shape), np.float32))
    labels = tf.zeros(size, tf.int32)
    refusals: tuple[type[Exception], ...] = (tf.errors.ResourceExhaustedError, MemoryError)
    if network.xla:
        refusals += (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError)
    try:
        look(images, labels)[0].numpy()
        start, calls = time.perf_counter(), 0
        while calls < 2 or time.perf_counter() - start < seconds:
            look(images, labels)[0].numpy()
            calls += 1
    except refusals:
        return 0.0
    return calls * size / (time.perf_counter() - start)


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


def main(architectures: Sequence[str]) -> None:
    from workers.catalog import ARCHITECTURES
    from workers.device import configure
    from workers.models.base import build

    device = configure(os.cpu_count() or 1, None)
    for name in architectures:
        if name not in ARCHITECTURES:
            raise SystemExit(f"expected architectures of {sorted(ARCHITECTURES)}, got {name!r}")
        model = build(name, ARCHITECTURES[name].input_shape, 10, seed=0)
        found = measure_batch(model)
        speeds = dict(zip(found.sizes, map(round, found.images_per_s), strict=True))
        line = {"architecture": name, "device": device, "images_per_s": speeds}
        print(json.dumps(line | {"batch_size": found.best, "xla": xla_pays(model)}))


if __name__ == "__main__":
    main(sys.argv[1:])

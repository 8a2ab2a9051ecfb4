"""Training with our input pipeline, beside the same steps on one batch that is in memory already
(the device's own limit) and beside what a user would write: Keras' fit over tf.data.

    python -m tests.bench.pipeline [--architectures cnn5,resnet8] [--turns 5] [--out FILE]

Images are random bytes in memory-mapped files, as prepared data sets are. Each way trains the
same network on the same number of images, in turns; prints JSON, with the median images per second
of each way and the ratios. `of_limit`: 1 is a device that never waits for images.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.output import tell
from tests.science import training


@dataclass(frozen=True, kw_only=True)
class Case:
    """One architecture as its protocol trains it."""

    images: int  #: of an epoch: about two seconds of work
    batch_size: int
    augmentation: str
    resident: bool  #: False: streamed from the file, as Imagenette's 1.4 GB are


CASES = {
    "cnn5": Case(images=12_800, batch_size=64, augmentation="none", resident=True),
    "resnet8": Case(images=2_560, batch_size=128, augmentation="flip_crop_6", resident=True),
    "resnet18": Case(images=48, batch_size=16, augmentation="flip_crop_60", resident=False),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--architectures", default=",".join(CASES))
    parser.add_argument("--images", type=int, help="of an epoch, instead of each case's own")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    device = configure(chosen.threads, None)
    runs = []
    for architecture in chosen.architectures.split(","):
        with tempfile.TemporaryDirectory() as folder:
            count = chosen.images or CASES[architecture].images
            runs.append(_compare(architecture, count, chosen.turns, Path(folder)))
        print(runs[-1]["summary"], file=sys.stderr)
    tell({"device": device, "threads": chosen.threads, "runs": runs}, chosen.out)


def _compare(architecture: str, count: int, turns: int, folder: Path) -> dict[str, Any]:
    from prunegrid.workers.catalog import ARCHITECTURES

    case = CASES[architecture]
    shape = ARCHITECTURES[architecture].input_shape
    images, labels = _files(folder, count, shape)
    ways = {
        "ours": _ours(architecture, case, images, labels),
        "limit": _limit(architecture, case, images, labels),
        "keras": _keras(architecture, case, images, labels),
    }
    for run in ways.values():  # compiles
        run()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, run in ways.items():
            started_s = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - started_s)
    speed = {way: count / statistics.median(times) for way, times in seconds.items()}
    of_limit, of_keras = speed["ours"] / speed["limit"], speed["ours"] / speed["keras"]
    return {
        "architecture": architecture,
        "image": list(shape),
        "images": count,
        "batch": case.batch_size,
        "augmentation": case.augmentation,
        "source": "resident" if case.resident else "streamed",
        "images_per_s": speed,
        "of_limit": of_limit,
        "of_keras": of_keras,
        "keras_of_limit": speed["keras"] / speed["limit"],
        "summary": f"{architecture}: {of_limit:.2f} of the limit, {of_keras:.2f}x Keras' fit "
        f"(which has {speed['keras'] / speed['limit']:.2f} of the limit)",
    }


def _files(folder: Path, count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", rng.integers(0, 256, (count, *shape), dtype=np.uint8))
    images = np.load(folder / "images.npy", mmap_mode="r")
    return images, rng.integers(0, 10, count, dtype=np.int32)


def _network(architecture: str, images: np.ndarray) -> Any:
    from prunegrid.workers.models.base import build

    return build(architecture, images.shape[1:], 10, seed=0)


class _Unsaved:
    """A checkpoint that keeps nothing."""

    def save(self, arrays: Any, state: Any) -> None:
        pass

    def load(self) -> None:
        return None


def _ours(
    architecture: str, case: Case, images: np.ndarray, labels: np.ndarray
) -> Callable[[], object]:
    """One epoch as a task trains it, from the memory map on; one image validates it."""
    from prunegrid.workers.data.base import Dataset, ImageSplit
    from prunegrid.workers.training.fit import TrainingHooks, TrainingStage, fit

    one = ImageSplit(images=images[:1], labels=labels[:1])
    dataset = Dataset(
        name="random",
        classes=10,
        train=ImageSplit(images=images, labels=labels),
        validation=one,
        test=one,
    )
    settings = training(
        batch_size=case.batch_size,
        learning_rate=0.001,
        max_epochs=1,
        augmentation=case.augmentation,
    )
    model = _network(architecture, images)
    stage = TrainingStage(name="bench", masks={}, dataset=dataset, settings=settings, seed=0)
    hooks = TrainingHooks(
        checkpoint=_Unsaved(), beat=lambda fraction, note: None, stop_requested=lambda: False
    )
    resident_bytes = 2**40 if case.resident else 0
    return lambda: fit(model, stage, hooks, resident_bytes=resident_bytes)


def _limit(
    architecture: str, case: Case, images: np.ndarray, labels: np.ndarray
) -> Callable[[], object]:
    """As many of the same steps in one call, all on one batch of floats: nothing to fetch."""
    import tensorflow as tf

    from prunegrid.workers.training.steps import Stepper

    stepper = Stepper(_network(architecture, images), case.batch_size, "none", None)
    x = tf.constant(images[: case.batch_size].astype(np.float32) / 255)
    y = tf.constant(labels[: case.batch_size])
    steps = -(-len(labels) // case.batch_size)

    @tf.function
    def run(count: Any) -> Any:
        loss = tf.constant(0.0)
        for _ in tf.range(count):
            loss = stepper._one(x, y, None)
        return loss

    return lambda: float(run(tf.constant(steps)))


def _keras(
    architecture: str, case: Case, images: np.ndarray, labels: np.ndarray
) -> Callable[[], object]:
    """tf.data as its guide has it: shuffle, map in parallel, batch, prefetch; compiled fit."""
    import keras
    import tensorflow as tf

    from prunegrid.workers.contract import Augmentation

    padding, shape = Augmentation.named(case.augmentation).pad, images.shape[1:]

    def prepare(image: Any, label: Any) -> Any:
        image = tf.cast(image, tf.float32) / 255.0
        if padding:
            image = tf.image.random_flip_left_right(image)
            image = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
            image = tf.image.random_crop(image, shape)
        return image, label

    data = (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .shuffle(len(labels))
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(case.batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )
    model = _network(architecture, images)
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def run() -> object:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
        try:
            return model.fit(data, epochs=1, shuffle=False, verbose=0)
        finally:  # as workers/device.py has it
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

    return run


if __name__ == "__main__":
    main()

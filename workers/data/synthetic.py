"""Images drawn from ten smooth prototypes with noise, for tests and for trying out a grid: no
download, learnable. Results on them say nothing about real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prunegrid.workers.data.raw_dataset import RawDataset


def read_16(folder: Path) -> RawDataset:
    return _draw((16, 16, 3), train=100, test=40)


def read_28(folder: Path) -> RawDataset:
    return _draw((28, 28, 1))


def read_32(folder: Path) -> RawDataset:
    return _draw((32, 32, 3))


def _draw(shape: tuple[int, int, int], *, train: int = 400, test: int = 200) -> RawDataset:
    rng = np.random.default_rng(20_240_229)
    height, width, channels = shape
    coarse = rng.random((10, height // 4, width // 4, channels))
    prototypes = np.kron(coarse, np.ones((1, 4, 4, 1)))

    def sample(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.arange(count) % 10)
        noise = rng.normal(0, 0.2, (count, *shape))
        images = np.clip(0.2 + 0.6 * prototypes[labels] + noise, 0, 1)
        return np.round(images * 255).astype(np.uint8), labels

    train_images, train_labels = sample(train)
    test_images, test_labels = sample(test)
    return RawDataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )

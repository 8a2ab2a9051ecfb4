"""Resident and streamed splits give the same batches."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.data.base import ImageSplit

pytestmark = pytest.mark.tf


@pytest.fixture
def split(tmp_path) -> ImageSplit:
    """Memory-mapped, as real ones are."""
    images = np.random.default_rng(0).integers(0, 256, (23, 4, 5, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    return ImageSplit(images=mapped, labels=np.arange(23, dtype=np.int32))


@pytest.mark.parametrize("start", [0, 8])
@pytest.mark.parametrize("resident_bytes", [0, 10**6])
def test_batches_are_the_images_in_order(split, resident_bytes, start):
    from prunegrid.workers.training.batches import source

    order = np.random.default_rng(1).permutation(23).astype(np.int32)[start:]
    taken = source(split, resident_bytes=resident_bytes)
    cursor = taken.epoch(order, 4)
    for first in range(0, len(order), 4):
        picked = order[first : first + 4]
        np.testing.assert_array_equal(taken.batch(cursor, picked), split.images[picked])


def test_what_fits_stays_on_the_device(split):
    from prunegrid.workers.training.batches import Resident, Streamed, source

    assert isinstance(source(split, resident_bytes=split.images.nbytes), Resident)
    assert isinstance(source(split, resident_bytes=split.images.nbytes - 1), Streamed)

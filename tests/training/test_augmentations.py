"""Flips and crops: what they do, and that they belong to an image, not to its batch."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tf

PADDED = {"flip_crop_6": 6, "flip_crop_60": 60}


def images(count: int, side: int) -> np.ndarray:
    shape = (count, side, side, 3)
    return np.random.default_rng(0).integers(1, 256, shape).astype(np.uint8)


def by_hand(image: np.ndarray, move: np.ndarray, padding: int) -> np.ndarray:
    flip, row, column = move
    side = len(image)
    image = image[:, ::-1] if flip else image
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
    return padded[row : row + side, column : column + side]


@pytest.mark.parametrize("name", PADDED)
def test_flip_pad_crop(name):
    from prunegrid.workers.training.augmentations import augment, draw_moves

    pictures, moves = images(12, 32), draw_moves(12, name, seed=3)
    assert moves[:, 0].any()
    assert not moves[:, 0].all()
    out = augment(pictures, moves, name).numpy()
    for picture, move, found in zip(pictures, moves, out, strict=True):
        np.testing.assert_array_equal(found, by_hand(picture, move, PADDED[name]))


def test_none_changes_nothing():
    from prunegrid.workers.training.augmentations import augment, draw_moves

    pictures = images(3, 8)
    moves = draw_moves(3, "none", seed=1)
    np.testing.assert_array_equal(augment(pictures, moves, "none"), pictures)


@pytest.mark.parametrize("name", PADDED)
def test_every_shift_is_drawn_and_none_beyond(name):
    from prunegrid.workers.training.augmentations import draw_moves

    moves = draw_moves(20_000, name, seed=0)
    for axis in (1, 2):
        assert sorted(set(moves[:, axis].tolist())) == list(range(2 * PADDED[name] + 1))
    assert 0.48 < moves[:, 0].mean() < 0.52


def test_the_seed_alone_decides():
    from prunegrid.workers.training.augmentations import draw_moves

    one, same, other = (draw_moves(50, "flip_crop_6", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_flips_alone_and_crops_alone():
    from prunegrid.workers.training.augmentations import augment, draw_moves

    pictures = images(12, 9)[:, :7]
    flips, crops = draw_moves(12, "flip", seed=3), draw_moves(12, "crop_2", seed=3)
    assert flips[:, 0].any()
    assert not flips[:, 1:].any()
    assert not crops[:, 0].any()
    assert crops[:, 1:].max() == 4
    turned = np.where(flips[:, 0, None, None, None] == 1, pictures[:, :, ::-1], pictures)
    np.testing.assert_array_equal(augment(pictures, flips, "flip"), turned)
    padded = np.pad(pictures, [(0, 0), (2, 2), (2, 2), (0, 0)])
    for found, image, (_, row, column) in zip(
        augment(pictures, crops, "crop_2").numpy(), padded, crops, strict=True
    ):
        np.testing.assert_array_equal(found, image[row : row + 7, column : column + 9])

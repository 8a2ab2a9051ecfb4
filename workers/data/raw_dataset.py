"""A data set as its source has it, in the form that it is prepared in. Numpy.

Whatever a source gives comes into that form here, or is refused with what was expected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunegrid.workers.dataset_entry import BY_HASH


class DataUnavailable(Exception):  # noqa: N818 - the contract's name for it
    """The data set is not available here; the message says why, and what to install or fetch."""


#: The fields of RawDataset, and the files that they are prepared as.
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def dtype_of(name: str) -> type[np.generic]:
    """Of one of ARRAYS, as it is prepared."""
    return np.uint8 if name.endswith("images") else np.int32


@dataclass(frozen=True, kw_only=True)
class RawDataset:
    """What a reader returns: uint8 images [n, h, w, c], integer labels [n]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...] = ()  #: where the source names them

    def fingerprint(self) -> str:
        """A hash of the four arrays, as they are prepared: shapes, pixels, labels, order."""
        found = hashlib.sha256()
        for name in ARRAYS:
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype_of(name))
            found.update(f"{name} {array.shape} ".encode())
            found.update(array.data.cast("B"))
        return BY_HASH + found.hexdigest()[:32]


NAMES = ("x_train", "y_train", "x_test", "y_test")  #: of the arrays, in readers' answers and files
CHANNELS = (1, 3, 4)
MOST_CLASSES = 1_000
#: Draws the order of a source that is sorted by class.
_ORDER_SEED = 5_000


def normal_form(answer: object, of: str) -> RawDataset:
    """A reader's answer: a mapping of NAMES to arrays, four arrays in that order, or two pairs, as
    the functions of `keras.datasets` return. `of`: the reader, for messages. Raises
    DataUnavailable."""
    arrays = [answer.get(n) for n in NAMES] if isinstance(answer, Mapping) else answer
    if isinstance(arrays, tuple | list) and len(arrays) == 2:
        arrays = [part for pair in arrays for part in pair]
    if not isinstance(arrays, tuple | list) or len(arrays) != 4 or any(a is None for a in arrays):
        raise DataUnavailable(
            f"expected {listed(NAMES)} from {of}, as a mapping or in this order, got "
            f"{type(answer).__name__}"
        )
    return arranged(arrays, [f"{name} of {of}" for name in NAMES])


def listed(names: Iterable[object], last: str = "and") -> str:
    """`a, b and c`."""
    *most, end = [str(name) for name in names] or ["nothing"]
    return f"{', '.join(most)} {last} {end}" if most else end


def arranged(
    arrays: Sequence[object], names: Sequence[str], class_names: Sequence[str] = ()
) -> RawDataset:
    """`arrays`: training images and labels, test images and labels; `names`: what their source
    calls them, for messages.

    Images [n, h, w] or [n, h, w, c], c 1, 3 or 4: uint8, or floats in [0, 1], which are rounded to
    255 steps. Labels [n] or [n, 1]: whole numbers 0..classes - 1, each among the training labels.
    A part that is sorted by class is put in a fixed random order: the validation images are the
    last of the training images, and attacks take the first ones.

    Raises DataUnavailable.
    """
    images = [_images(arrays[i], names[i]) for i in (0, 2)]
    labels = [_labels(arrays[i], names[i], len(images[i // 2]), names[i - 1]) for i in (1, 3)]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise DataUnavailable(
            f"expected images of one shape, got {_by(images[0].shape[1:])} in {names[0]} and "
            f"{_by(images[1].shape[1:])} in {names[2]}"
        )
    classes = len(class_names) or int(labels[0].max()) + 1
    if not 2 <= classes <= MOST_CLASSES:
        raise DataUnavailable(f"expected 2 to {MOST_CLASSES} classes, got {classes}")
    if missing := sorted(set(range(classes)) - set(labels[0].tolist())):
        one = class_names[missing[0]] if class_names else f"class {missing[0]}"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataUnavailable(
            f"expected training images of each of {classes} classes (labels 0 to {classes - 1}), "
            f"got none of {one}{more} in {names[1]}"
        )
    if int(labels[1].max()) >= classes:
        raise DataUnavailable(
            f"expected labels of the {classes} classes that have training images in {names[3]}, "
            f"got {int(labels[1].max())}"
        )
    parts = [_mixed(*part) for part in zip(images, labels, strict=True)]
    return RawDataset(
        train_images=parts[0][0],
        train_labels=parts[0][1],
        test_images=parts[1][0],
        test_labels=parts[1][1],
        class_names=tuple(class_names),
    )


def split_off_test(
    images: np.ndarray, labels: np.ndarray, test_frac: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels: `test_frac` of each class, at least one
    image, drawn by `seed`. Raises DataUnavailable for a class of a single image."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        if len(mine) < 2:
            raise DataUnavailable(
                f"expected two images or more of each class to split, got one of class {label}"
            )
        chosen[mine[: min(max(1, round(len(mine) * test_frac)), len(mine) - 1)]] = True
    return images[~chosen], labels[~chosen], images[chosen], labels[chosen]


def _images(value: object, name: str) -> np.ndarray:
    images = np.asarray(value)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape or images.shape[3] not in CHANNELS:
        first = images.ndim == 4 and images.shape[1] in CHANNELS
        hint = "; the channels come last" if first else ""
        raise DataUnavailable(
            f"expected images [n, height, width, channels] with 1, 3 or 4 channels in {name}, got "
            f"{images.dtype} {list(images.shape)}{hint}"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1:
        return np.round(images.astype(np.float64) * 255).astype(np.uint8)
    ends = f" from {images.min():g} to {images.max():g}" if images.dtype.kind in "iuf" else ""
    raise DataUnavailable(
        f"expected uint8 pixels, or floats from 0 to 1, in {name}, got {images.dtype}{ends}"
    )


def _labels(value: object, name: str, count: int, of: str) -> np.ndarray:
    labels = np.asarray(value)
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise DataUnavailable(
            f"expected one label for each of the {count} images of {of} in {name}, got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    if labels.dtype.kind not in "iu" or int(labels.min()) < 0:
        got = f" from {labels.min():g}" if labels.dtype.kind in "if" else ""
        raise DataUnavailable(
            f"expected whole numbers from 0 as labels in {name}, got {labels.dtype}{got}"
        )
    if int(labels.max()) >= MOST_CLASSES:
        raise DataUnavailable(
            f"expected labels below {MOST_CLASSES} in {name}, got {int(labels.max())}"
        )
    return labels.astype(np.int32)


def _mixed(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As they are, unless the label changes from image to image less than half as often as it
    would in random order."""
    shares = np.bincount(labels) / len(labels)
    by_chance = (1 - np.square(shares).sum()) * (len(labels) - 1)
    if np.count_nonzero(np.diff(labels)) >= by_chance / 2:
        return images, labels
    order = np.random.default_rng(_ORDER_SEED).permutation(len(labels))
    return images[order], labels[order]


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

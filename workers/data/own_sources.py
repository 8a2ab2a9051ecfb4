"""Readers of a grid's own data sets: a file of arrays, a folder of images, the Hugging Face hub.
TensorFlow Datasets are in `tfds_sets.py`; a function of the user's is a reader by itself.

Their options are what the grid file says under `datasets`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunegrid.workers.data.raw_dataset import (
    NAMES,
    DataUnavailable,
    RawDataset,
    arranged,
    listed,
    split_off_test,
)

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: Names of the folder with the test images, the first that is there.
_TEST_FOLDERS = ("test", "validation", "valid", "val")


# --------------------------------------------------------------------------- npz


def read_npz(*, path: str) -> RawDataset:
    """A file of numpy's `savez` with NAMES."""
    name = Path(path).name
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataUnavailable(f"expected an .npz file with {listed(NAMES)}: {path}")
            if missing := [array for array in NAMES if array not in file.files]:
                raise DataUnavailable(
                    f"expected the arrays {listed(NAMES)} in {name}, got "
                    f"{listed(file.files)}: {missing[0]} is missing"
                )
            arrays = [file[array] for array in NAMES]
    except FileNotFoundError:
        raise DataUnavailable(f"there is no file {path}") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataUnavailable(f"{path} can't be read as .npz: {error}") from error
    return arranged(arrays, [f"{name}'s {array}" for array in NAMES])


# --------------------------------------------------------------------------- folders of images


# Parameters: what a grid file may say of a folder.
def read_images(
    *,
    path: str,
    height: int | None = None,
    width: int | None = None,
    test_frac: float = 0.2,
    split_seed: int = 0,
) -> RawDataset:
    """A folder for each class, in `train/` and `test/`, or in the folder itself, which is then
    split. A class's number is its folder's place in the order of names."""
    root = Path(path)
    if not root.is_dir():
        raise DataUnavailable(f"there is no folder {path}")
    train = root / "train" if (root / "train").is_dir() else root
    test = next((p for n in _TEST_FOLDERS if (p := root / n).is_dir()), None)
    if train != root and test is None:
        raise DataUnavailable(f"expected {listed(_TEST_FOLDERS, 'or')} beside train in {path}")
    files, names = _files(train)
    others, other_names = _files(test) if train != root and test else ({}, ())
    if unknown := sorted(set(other_names) - set(names)):
        raise DataUnavailable(f"expected the classes of {train} in {test}, got {unknown[0]} too")
    numbers = {name: number for number, name in enumerate(names)}
    found = [(file, numbers[name]) for name in names for file in files[name]]
    found += [(file, numbers[name]) for name in other_names for file in others[name]]
    images = stacked(
        [file.name for file, _ in found], lambda i: _opened(found[i][0]), _size(height, width)
    )
    labels = np.array([number for _, number in found], dtype=np.int32)
    if not others:
        return arranged(split_off_test(images, labels, test_frac, split_seed), [path] * 4, names)
    cut = sum(map(len, files.values()))
    arrays = (images[:cut], labels[:cut], images[cut:], labels[cut:])
    return arranged(arrays, [str(train)] * 2 + [str(test)] * 2, names)


def _files(root: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """The images of each class's folder, and the classes, in order."""
    classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {
        one.name: sorted(
            p for p in one.rglob("*") if p.suffix.lower() in _ENDINGS and p.name[0] != "."
        )
        for one in classes
    }
    if empty := [name for name, files in found.items() if not files]:
        raise DataUnavailable(
            f"expected images ({' '.join(_ENDINGS)}) in {root / empty[0]}, got none"
        )
    if not found:
        raise DataUnavailable(f"expected a folder for each class in {root}, got none")
    return found, tuple(found)


def _opened(file: Path) -> Any:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataUnavailable(f"{file} can't be read as an image: {error}") from error


def stacked(
    names: Sequence[str], picture: Callable[[int], Any], size: tuple[int, int] | None
) -> np.ndarray:
    """uint8 [n, h, w, c] of Pillow's images: grey ones alone give one channel, ones with alpha
    alone four, all else three. `size`: height and width that images are resized to (bilinear,
    aspect not kept); None: all have the same. Raises DataUnavailable."""
    from PIL import Image

    modes: set[str] = set()
    sizes: dict[tuple[int, int], str] = {}
    for number, name in enumerate(names):  # twice: decoded ones may take more memory than arrays
        one = picture(number)
        modes.add(one.mode)
        sizes.setdefault((one.height, one.width), name)
    if size is None and len(sizes) > 1:
        ((h, w), name), ((y, x), other) = list(sizes.items())[:2]
        raise DataUnavailable(
            f"expected images of one size, got {h}x{w} ({name}) and {y}x{x} ({other}); "
            "'size: [height, width]' resizes all"
        )
    height, width = size or next(iter(sizes))
    mode = "L" if modes <= {"1", "L"} else "RGBA" if modes == {"RGBA"} else "RGB"
    out = np.empty((len(names), height, width, len(mode)), dtype=np.uint8)
    for number in range(len(names)):
        one = picture(number).convert(mode)
        if one.size != (width, height):
            one = one.resize((width, height), Image.Resampling.BILINEAR)
        out[number] = np.asarray(one).reshape(out.shape[1:])
    return out


# --------------------------------------------------------------------------- Hugging Face


# Parameters: what a grid file may say of it.
def read_huggingface(
    folder: Path,
    *,
    name: str,
    height: int | None = None,
    width: int | None = None,
    test_frac: float = 0.2,
    split_seed: int = 0,
) -> RawDataset:
    """An image classification set of the Hugging Face hub, or a folder that `datasets` loads."""
    try:
        import datasets
    except ImportError as error:
        raise DataUnavailable(
            "the package datasets, which reads it, is not installed: "
            "pip install 'prunegrid[huggingface]'"
        ) from error
    try:
        splits = datasets.load_dataset(name, cache_dir=str(folder / "huggingface"))
    except Exception as error:
        raise DataUnavailable(f"{name} can't be loaded: {error}") from error
    if "train" not in splits:
        raise DataUnavailable(f"expected a split named train in {name}, got {listed(splits)}")
    features = splits["train"].features
    image = next((key for key, f in features.items() if type(f).__name__ == "Image"), None)
    label = next((key for key, f in features.items() if type(f).__name__ == "ClassLabel"), None)
    if image is None or label is None:
        raise DataUnavailable(
            f"expected a column of images and one of class labels in {name}, got {listed(features)}"
        )

    def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = splits[split]
        called = [f"{split} {number}" for number in range(len(rows))]
        images = stacked(called, lambda number: rows[number][image], _size(height, width))
        return images, np.asarray(rows[label], dtype=np.int32)

    test = next((split for split in _TEST_FOLDERS if split in splits), None)
    parts = arrays("train")
    four: Sequence[np.ndarray] = (
        split_off_test(*parts, test_frac, split_seed) if test is None else parts + arrays(test)
    )
    return arranged(four, [name] * 4, features[label].names)


def _size(height: int | None, width: int | None) -> tuple[int, int] | None:
    return None if height is None or width is None else (height, width)

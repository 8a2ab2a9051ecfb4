"""An adversarial image, the clean image, and their difference, as small PNGs."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prunegrid.workers import layout
from prunegrid.workers.files import Files

KINDS = ("clean", "adversarial", "perturbation")
_SIDE = 1024  #: larger arrays are not ours
_MOST_BYTES = 3 * 8 * _SIDE**2 + 4096
_TASK = re.compile(r"attack-[0-9a-f]{20}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image that an attack broke."""

    image: int  #: its index in the split
    has_clean: bool


def is_attack_key(text: str) -> bool:
    """Only such a name may become part of a path."""
    return _TASK.fullmatch(text) is not None


def samples(files: Files, key: str) -> list[Sample]:
    """The images that an attack task kept. Raises StorageError, ValueError."""
    if not is_attack_key(key):
        return []
    try:
        with _archive(files, key) as archive:
            names = set(archive.files)
    except FileNotFoundError:
        return []
    found = sorted(int(name) for name in names if name.isdecimal() and len(name) < 9)
    return [Sample(image=i, has_clean=f"clean.{i}" in names) for i in found]


def picture(files: Files, key: str, index: int, kind: str) -> bytes:
    """PNG of the index-th sample. Raises FileNotFoundError where there is none, ValueError where
    the file is torn or not ours, StorageError."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    found = samples(files, key)
    if not 0 <= index < len(found):
        raise FileNotFoundError(f"{key}: {len(found)} images, no number {index}")
    one = found[index]
    if kind != "adversarial" and not one.has_clean:
        raise FileNotFoundError(f"{key}: its clean images were not kept")
    with _archive(files, key) as archive:
        adversarial = _pixels(archive, str(one.image))
        if kind == "adversarial":
            return png(adversarial)
        clean = _pixels(archive, f"clean.{one.image}")
    if kind == "clean":
        return png(clean)
    if clean.shape != adversarial.shape:
        raise ValueError(f"{key}: its images differ in shape")
    return png(amplified(adversarial - clean)[:, :, :3])  # half of the transparency hides it


def amplified(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey where nothing changed, the largest change at black or white."""
    largest = float(np.abs(change).max(initial=0.0))
    return np.float32(0.5) + change / np.float32(2 * largest or 1.0)


def png(pixels: NDArray[np.float32]) -> bytes:
    """`pixels`: [h, w, 1, 3 or 4] in [0, 1]; others are clipped, NaN becomes 0."""
    bytes_ = (np.clip(np.nan_to_num(pixels), 0, 1) * 255 + 0.5).astype(np.uint8)
    image = Image.fromarray(bytes_[:, :, 0] if bytes_.shape[2] == 1 else bytes_)
    sink = io.BytesIO()
    image.save(sink, format="PNG", optimize=False)
    return sink.getvalue()


def _archive(files: Files, key: str) -> np.lib.npyio.NpzFile:
    """Refuses arrays of objects, whose loading may execute code."""
    try:
        loaded = np.load(io.BytesIO(files.read(layout.adversarials(key))), allow_pickle=False)
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise ValueError(f"{layout.adversarials(key)} is torn: {error}") from error
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise ValueError(f"{layout.adversarials(key)} is torn: not an .npz")
    return loaded


def _pixels(archive: np.lib.npyio.NpzFile, name: str) -> NDArray[np.float32]:
    try:
        if archive.zip is None or archive.zip.getinfo(f"{name}.npy").file_size > _MOST_BYTES:
            raise ValueError(f"image {name}: larger than any image of ours")
        array = np.asarray(archive[name])
    except (
        zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, MemoryError,
    ) as error:  # fmt: skip
        raise ValueError(f"image {name} is torn: {error}") from error
    fits = array.ndim == 3 and array.shape[2] in (1, 3, 4) and min(array.shape) > 0
    if not fits or max(array.shape) > _SIDE or array.dtype.kind not in "fiu":
        raise ValueError(f"image {name}: expected [h, w, 1, 3 or 4] numbers, got {array.shape}")
    return array.astype(np.float32)

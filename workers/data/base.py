"""Data sets: prepared once per node as memory-mapped arrays, the same for every process.

A reader is a function that fetches and decodes a data set. An entry of workers/catalog/ names it,
and so does what a grid says of a data set of its own. Its parameters are its options, and `folder`,
where it may keep what it fetches. It returns a RawDataset, or arrays as `normal_form` takes them;
it raises DataUnavailable where it can't get the data.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prunegrid.workers.catalog import dataset_of
from prunegrid.workers.contract import DataSettings
from prunegrid.workers.data.raw_dataset import (
    ARRAYS,
    DataUnavailable,
    RawDataset,
    dtype_of,
    normal_form,
)
from prunegrid.workers.dataset_entry import BY_HASH, DatasetEntry
from prunegrid.workers.files import StorageError, expanded
from prunegrid.workers.user_code import UserCode, UserCodeError


@dataclass(frozen=True, kw_only=True)
class ImageSplit:
    images: np.ndarray  #: uint8 [n, h, w, c], memory-mapped
    labels: np.ndarray  #: int32 [n]

    def __len__(self) -> int:
        return len(self.labels)

    def floats(self, start: int, stop: int) -> np.ndarray:
        """Images start..stop (exclusive) as float32 in [0, 1]."""
        return self.images[start:stop].astype(np.float32) / np.float32(255)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    name: str
    classes: int
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit

    def split(self, name: str) -> ImageSplit:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def default_data_dir() -> Path:
    """Raises DataUnavailable where the home directory is not known."""
    named = os.environ.get("PRUNEGRID_DATA_DIR")
    try:
        return Path(named) if named else expanded("~/.cache/prunegrid")
    except StorageError as error:
        raise DataUnavailable(f"{error}, or PRUNEGRID_DATA_DIR, or give --data-dir") from None


@functools.lru_cache(maxsize=4)
def load(data: DataSettings, data_dir: str | None) -> Dataset:
    """The splits of a data set, which is prepared first if this node lacks it.

    Raises DataUnavailable, and ValueError for a name that is not in the catalog.
    """
    entry = dataset_of(data)
    if data.fingerprint != entry.fingerprint:
        raise DataUnavailable(
            f"{entry.name}: the task needs {data.fingerprint}, this worker has "
            f"{entry.fingerprint}; run driver and workers from the same version"
        )
    folder = prepare(entry, Path(data_dir) if data_dir else default_data_dir())
    arrays = _mapped(entry, folder)
    images, labels = arrays["train_images"], arrays["train_labels"]
    if data.train_images is not None:
        images, labels = images[: data.train_images], labels[: data.train_images]
    tail = round(len(labels) * data.validation_frac)
    cut = len(labels) - tail
    return Dataset(
        name=entry.name,
        classes=entry.classes,
        train=ImageSplit(images=images[:cut], labels=np.asarray(labels[:cut])),
        validation=ImageSplit(images=images[cut:], labels=np.asarray(labels[cut:])),
        test=ImageSplit(images=arrays["test_images"], labels=np.asarray(arrays["test_labels"])),
    )


def _mapped(entry: DatasetEntry, folder: Path) -> dict[str, np.ndarray]:
    """The prepared files, memory-mapped, and checked: they may have been copied from elsewhere."""
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        check(RawDataset(**arrays), entry)
    except (OSError, ValueError, EOFError, DataUnavailable) as error:
        raise DataUnavailable(
            f"the prepared {entry.name} in {folder} is damaged ({error}); "
            "remove that folder to prepare it again"
        ) from error
    return arrays


def prepare(entry: DatasetEntry, data_dir: Path) -> Path:
    """The folder with the prepared arrays. The first process on this node makes it while others
    wait. Raises DataUnavailable."""

    def checked() -> RawDataset:
        raw = _read(entry, data_dir)
        check(raw, entry)
        return raw

    return keep(entry.name, entry.fingerprint, checked, data_dir)


def keep(name: str, fingerprint: str, read: Callable[[], RawDataset], data_dir: Path) -> Path:
    """The folder with the arrays of this fingerprint, from `read` where it is not there yet.
    `name`: for messages. Raises DataUnavailable."""
    folder = data_dir / "".join(c if c.isalnum() or c in ".-" else "_" for c in fingerprint)
    if (folder / "ready.json").exists():
        return folder
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _locked(data_dir / f".{folder.name}.lock"):
            if not (folder / "ready.json").exists():
                _write(read, folder, fingerprint)
    except OSError as error:
        raise DataUnavailable(f"can't prepare {name} in {data_dir}: {error}") from error
    return folder


def read(reader: UserCode, data_dir: Path) -> RawDataset:
    """What a reader returns. Raises DataUnavailable."""
    try:
        found = reader.call(folder=data_dir)
    except UserCodeError as error:
        if isinstance(error.__cause__, DataUnavailable):
            raise error.__cause__ from None
        raise DataUnavailable(str(error)) from error
    return found if isinstance(found, RawDataset) else normal_form(found, reader.target)


def _read(entry: DatasetEntry, data_dir: Path) -> RawDataset:
    """From the source. Raises DataUnavailable, also where one's own data are no more what they
    were when the run was planned."""
    try:
        raw = read(entry.reader, data_dir)
    except DataUnavailable as error:
        if not entry.fingerprint.startswith(BY_HASH):
            raise
        folder = entry.fingerprint.replace(":", "_")
        raise DataUnavailable(
            f"{error} (on {socket.gethostname()}); expected it where every node sees it, or the "
            f"folder {folder} of a machine that has read it in {data_dir}"
        ) from error
    if entry.fingerprint.startswith(BY_HASH) and raw.fingerprint() != entry.fingerprint:
        raise DataUnavailable(
            f"{entry.name}: its arrays have changed since the run was planned: expected "
            f"{entry.fingerprint}, got {raw.fingerprint()}; run again to plan with the new ones"
        )
    return raw


def _write(read: Callable[[], RawDataset], folder: Path, fingerprint: str) -> None:
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # left by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    raw = read()
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    aside.mkdir()
    try:
        for name in ARRAYS:
            array = np.ascontiguousarray(getattr(raw, name), dtype=dtype_of(name))
            np.save(aside / f"{name}.npy", array)
        (aside / "ready.json").write_text(json.dumps({"fingerprint": fingerprint}))
        shutil.rmtree(folder, ignore_errors=True)  # an incomplete copy from elsewhere
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check(raw: RawDataset, entry: DatasetEntry) -> None:
    """Raises DataUnavailable where shapes, types or labels differ from the catalog's."""
    for part, count in (("train", entry.train_images), ("test", entry.test_images)):
        images, labels = getattr(raw, f"{part}_images"), getattr(raw, f"{part}_labels")
        expected = (count, *entry.shape)
        if images.shape != expected or images.dtype != np.uint8:
            raise DataUnavailable(
                f"{entry.name}: expected uint8 {part} images of {expected}, "
                f"got {images.dtype} {images.shape}"
            )
        if labels.shape != (count,) or labels.min() < 0 or labels.max() >= entry.classes:
            raise DataUnavailable(
                f"{entry.name}: expected {count} {part} labels in 0..{entry.classes - 1}, "
                f"got {labels.shape} in {labels.min()}..{labels.max()}"
            )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """An advisory lock that ends with its process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

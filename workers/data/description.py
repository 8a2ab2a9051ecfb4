"""What a data set is that a grid brings: shape, classes, counts, and a hash of its arrays.

The driver holds no images and imports no TensorFlow, so a child process reads the source, leaves
the prepared arrays in the data folder, where this machine's tasks find them, and answers with the
entry. The answer is kept while the source looks the same: a file by its size and time, a folder by
those of its files, a function by its source, options and version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from prunegrid.workers.cache import load, save
from prunegrid.workers.child_process import ask_child, limited
from prunegrid.workers.dataset_entry import DatasetEntry
from prunegrid.workers.decode import from_dict
from prunegrid.workers.keys import digest
from prunegrid.workers.user_code import UserCode, file_of, sources_digest

_CHILD = "prunegrid.workers.data.description"


def described(name: str, reader: UserCode, data_dir: Path | None) -> DatasetEntry:
    """`name`: the grid's label. `data_dir`: None for the default one. Raises ValueError, which says
    what is wrong with the source."""
    kept = f"data-{digest([reader, _state(reader)])}"
    try:
        return dataclasses.replace(from_dict(DatasetEntry, load(kept)), name=name)
    except ValueError:  # not described yet
        answer = _asked(name, reader, data_dir)
    entry = from_dict(DatasetEntry, answer)
    save(kept, answer)
    return entry


def _state(reader: UserCode) -> object:
    """Of what is read; another state may be other data."""
    path = dict(reader.options).get("path")
    if not reader.is_ours:
        file = file_of(reader.target.partition(":")[0])
        if file is not None and "site-packages" in file.parts:  # a library's other files are many
            return hashlib.sha256(file.read_bytes()).hexdigest()
        return sources_digest(reader.target)
    if not isinstance(path, str):
        return [_version("tensorflow-datasets"), _version("datasets")]
    root = Path(path)
    try:
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        found = [(str(p.relative_to(root)), p.stat()) for p in files]
    except FileNotFoundError:
        raise ValueError(f"there is no {path}") from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    return [[p, stat.st_size, stat.st_mtime_ns] for p, stat in found]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _asked(name: str, reader: UserCode, data_dir: Path | None) -> Mapping[str, object]:
    asked = {
        "name": name,
        "reader": dataclasses.asdict(reader),
        "data_dir": None if data_dir is None else str(data_dir),
    }
    answer: dict[str, object] = ask_child(_CHILD, asked)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def describe(name: str, reader: UserCode, data_dir: Path | None) -> DatasetEntry:
    """Reads the source and prepares it. Raises DataUnavailable."""
    from prunegrid.workers.data.base import default_data_dir, keep, read

    folder = data_dir or default_data_dir()
    raw = read(reader, folder)
    fingerprint = raw.fingerprint()
    keep(name, fingerprint, lambda: raw, folder)
    height, width, channels = raw.train_images.shape[1:]
    return DatasetEntry(
        name=name,
        reader=reader,
        fingerprint=fingerprint,
        shape=(height, width, channels),
        classes=len(raw.class_names) or int(raw.train_labels.max()) + 1,
        train_images=len(raw.train_labels),
        test_images=len(raw.test_labels),
        class_names=raw.class_names,
    )


def main() -> None:
    asked = json.load(sys.stdin)
    folder = asked["data_dir"]
    try:
        reader = from_dict(UserCode, asked["reader"])
        # What is not the user's code may have much to download.
        with contextlib.nullcontext() if reader.is_ours else limited():
            entry = describe(asked["name"], reader, None if folder is None else Path(folder))
        answer = dataclasses.asdict(entry)
    except Exception as error:
        unavailable = type(error).__name__ == "DataUnavailable"
        answer = {"error": f"{'' if unavailable else f'{type(error).__name__}: '}{error}"}
    print()  # what a user's code printed may have no end of line
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

"""Checkpoints: a task's state between attempts, arrays and a little JSON in one file."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunegrid.workers import layout
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files
from prunegrid.workers.revision import CODE

_STATE = "__state__"


def pack(arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> bytes:
    """An .npz; names may hold slashes."""
    sink = io.BytesIO()
    plain: Any = {name: np.asarray(array) for name, array in arrays.items()}
    (np.savez_compressed if compressed else np.savez)(sink, allow_pickle=False, **plain)
    return sink.getvalue()


def unpack(content: bytes) -> dict[str, np.ndarray]:
    """Raises ValueError where the content is not a whole .npz. Nothing in it is executed."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, RuntimeError) as error:
        raise ValueError(f"not a whole .npz: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Saved:
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


class Checkpoint:
    """One task's checkpoint file; the last save wins. It is its code's: a result is computed by
    one code from beginning to end, or its row would name another than made it."""

    def __init__(self, files: Files, task_key: str, *, users: str = "") -> None:
        """`users`: the digest of what a user's own code adds."""
        self._code = f"{CODE.digest} {users}"
        self._files = files
        self._path = layout.checkpoint_file(task_key, "state.npz")

    def save(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Raises StorageError."""
        marked = json.dumps({"code": self._code, "state": state})
        text = np.frombuffer(marked.encode(), dtype=np.uint8)
        self._files.write(self._path, pack({**arrays, _STATE: text}))

    def load(self) -> Saved | None:
        """None where the file is missing, torn or of other code: the task starts over. Raises
        StorageError."""
        try:
            arrays = unpack(self._files.read(self._path))
            marked = parse_json(arrays.pop(_STATE).tobytes())
            if marked["code"] != self._code:
                return None
            return Saved(arrays=arrays, state=marked["state"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def remove(self) -> None:
        self._files.remove(self._path)

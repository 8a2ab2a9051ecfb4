"""The .keras files that grids bring, from the store to this machine."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from prunegrid.workers import layout
from prunegrid.workers.contract import OwnNetwork
from prunegrid.workers.files import Files

_files: dict[str, Path] = {}  #: by SHA-256


def local_file(own: OwnNetwork | None, files: Files) -> Path | None:
    """Where the .keras file of a network is on this machine, read from the store once for each
    process; None where it has none. Raises FileNotFoundError, StorageError, and ValueError where
    it is another."""
    sha256 = "" if own is None else own.file_sha256
    if sha256 and sha256 not in _files:
        content = files.read(layout.network_file(sha256))
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its SHA-256 is not its name")
        path = Path(tempfile.mkdtemp(prefix="prunegrid-network-")) / f"{sha256[:12]}.keras"
        path.write_bytes(content)
        _files[sha256] = path
    return _files.get(sha256)

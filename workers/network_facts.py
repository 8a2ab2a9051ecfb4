"""What Keras can say of a network, and what to ask it. Standard library only."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.workers.keys import digest
from prunegrid.workers.user_code import UserCode

#: Of Keras' configuration, what says nothing about the network.
_NOISE = {"registered_name", "build_config", "shared_object_id", "seed"}


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """A network to ask Keras about."""

    target: str = ""  #: of a catalog entry
    code: UserCode | None = None  #: of the user's function
    file_path: str = ""  #: of a .keras file
    trained: bool = False  #: its weights are used
    input_shape: tuple[int, int, int]
    classes: int
    prune_except: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What Keras answers."""

    configuration: str  #: a digest of what determines the dense network, apart from its training
    parameters: int  #: all that it has, batch norm's statistics too
    prunable_weights: int
    structured_weights: int  #: those of them that structured methods prune
    forward_flops: int  #: multiply-adds of one forward pass of one image
    file_sha256: str = ""
    notes: tuple[str, ...] = ()  #: for people, one line each


@functools.lru_cache(maxsize=64)
def _file_digest(path: str, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: str) -> str:
    """ "" for "". Raises ValueError where it can't be read."""
    if not path:
        return ""
    try:
        state = Path(path).stat()
        return _file_digest(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def configuration_of(config: Mapping[str, Any]) -> str:
    """The digest of a Keras model's configuration: layers, by name, their settings and
    connections, but no weights."""
    return digest(_plain(config))


def _plain(value: Any) -> Any:
    """As JSON; without what is not set, which a later version of Keras may add to. A class of
    Keras' own is known by its name, a user's by its module too."""
    if isinstance(value, dict):
        noise = _NOISE
        if str(value.get("module", "")).partition(".")[0] in ("keras", "builtins", ""):
            noise = noise | {"module"}
        kept = {str(k): _plain(v) for k, v in value.items() if k not in noise and v is not None}
        return sorted(kept.items())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such number
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)

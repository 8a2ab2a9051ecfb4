"""What a network is, apart from its name: the part of a task's key that follows from its function.

An architecture's name does not say what its function builds. What it builds, the model's
configuration as Keras tells it, does, however it is written. The driver imports no TensorFlow: a
child process asks Keras, once for each version of the function's sources. An entry of the catalog
may record its sources and its configuration; then nobody is asked while they are as recorded, and
the name alone is in the key while the configuration is.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prunegrid.workers.cache import load, save
from prunegrid.workers.catalog import ARCHITECTURES
from prunegrid.workers.decode import from_dict
from prunegrid.workers.keys import digest
from prunegrid.workers.user_code import UserCode, sources_digest

_CLASSES = 10  #: a data set's are in the key by its fingerprint
#: Of Keras' configuration, what says nothing about the network.
_NOISE = {"registered_name", "build_config", "shared_object_id", "seed"}
_FORMAT = 2  #: of the answers, in the cache
_CHILD = "prunegrid.workers.models.describe"


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


def identity(name: str) -> str:
    """Of an architecture of the catalog: "" where it is as its entry records it, else a digest of
    its configuration. Raises ValueError where no network can be built."""
    entry = ARCHITECTURES[name]
    if sources_digest(entry.target) == entry.sources:
        return ""
    request = NetworkRequest(target=entry.target, input_shape=entry.input_shape, classes=_CLASSES)
    (found,) = ask([request])
    if isinstance(found, str):
        raise ValueError(found)
    return "" if found.configuration == entry.configuration else found.configuration


def ask(requests: Sequence[NetworkRequest]) -> list[NetworkFacts | str]:
    """What each network is, or in one line why it can't be built: from this machine's cache, or
    from one child process for all. Raises ValueError where there are no sources."""
    names = [_cache_name(request) for request in requests]
    kept: list[NetworkFacts | str | None] = [_kept(name) for name in names]
    unknown = [k for k, found in enumerate(kept) if found is None]
    answers = _ask_child([requests[k] for k in unknown]) if unknown else []
    for k, answer in zip(unknown, answers, strict=True):
        kept[k] = answer
        if isinstance(answer, NetworkFacts):
            save(names[k], dataclasses.asdict(answer))
    return [found for found in kept if found is not None]


def _cache_name(request: NetworkRequest) -> str:
    if request.code is not None:
        sources = sources_digest(request.code.target)
    else:
        sources = file_sha256(request.file_path) or sources_digest(request.target)
    plain = dataclasses.replace(request, file_path="")
    asked = [dataclasses.asdict(plain), sources, version("keras"), _FORMAT]
    return f"network-{digest(json.dumps(asked, sort_keys=True))}"


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


def _kept(name: str) -> NetworkFacts | None:
    raw = load(name)
    try:
        return None if raw is None else from_dict(NetworkFacts, raw)
    except ValueError:
        return None


def _ask_child(requests: Sequence[NetworkRequest]) -> list[NetworkFacts | str]:
    done = run_child(_CHILD, [dataclasses.asdict(request) for request in requests])
    try:
        answers: list[Mapping[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [last for _ in requests]
    return [
        str(answer["error"]) if "error" in answer else from_dict(NetworkFacts, answer)
        for answer in answers
    ]


def run_child(module: str, asked: object) -> subprocess.CompletedProcess[str]:
    """A module of ours in a process of its own, which finds what this one finds; `asked` is its
    standard input, as JSON. On a CPU: a GPU is for workers."""
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return subprocess.run(
        [sys.executable, "-P", "-m", module],
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )


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
    return value if isinstance(value, bool | int | float | str | None) else str(value)

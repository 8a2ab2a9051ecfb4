"""What a network is, apart from its name: the part of a task's key that follows from its function.

An architecture's name does not say what its function builds. What it builds, the model's
configuration as Keras tells it, does, however it is written. The driver imports no TensorFlow: a
child process asks Keras, once for each version of the function's sources. An entry of the catalog
may record its sources and its configuration; then nobody is asked while they are as recorded, and
the name alone is in the key while the configuration is.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from importlib.metadata import version

from prunegrid.workers.cache import load, save
from prunegrid.workers.catalog import ARCHITECTURES
from prunegrid.workers.child_process import ask_child
from prunegrid.workers.decode import from_dict
from prunegrid.workers.keys import digest
from prunegrid.workers.network_facts import NetworkFacts, NetworkRequest, file_sha256
from prunegrid.workers.user_code import sources_digest

_CLASSES = 10  #: a data set's are in the key by its fingerprint
_FORMAT = 2  #: of the answers, in the cache
_CHILD = "prunegrid.workers.models.describe"


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


def _kept(name: str) -> NetworkFacts | None:
    raw = load(name)
    try:
        return None if raw is None else from_dict(NetworkFacts, raw)
    except ValueError:
        return None


def _ask_child(requests: Sequence[NetworkRequest]) -> list[NetworkFacts | str]:
    try:
        answers = ask_child(_CHILD, [dataclasses.asdict(request) for request in requests])
    except ValueError as error:
        return [str(error) for _ in requests]
    return [
        str(answer["error"]) if "error" in answer else from_dict(NetworkFacts, answer)
        for answer in answers
    ]

"""What a network is, apart from its name: the part of a task's key that follows from its function.

An architecture's name does not say what its function builds. What it builds, the model's
configuration as Keras tells it, does, however it is written. The driver imports no TensorFlow: a
child process asks Keras, once for each version of the function's sources. An entry of the catalog
may record its sources and its configuration; then nobody is asked while they are as recorded, and
the name alone is in the key while the configuration is.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from prunegrid.workers.cache import load, save
from prunegrid.workers.catalog import ARCHITECTURES
from prunegrid.workers.keys import digest
from prunegrid.workers.user_code import sources_digest

_CLASSES = 10  #: a data set's are in the key by its fingerprint
#: Of Keras' configuration, what says nothing about the network.
_NOISE = {"module", "registered_name", "build_config", "shared_object_id", "seed"}


def identity(name: str) -> str:
    """Of an architecture of the catalog: "" where it is as its entry records it, else a digest of
    its configuration. Raises ValueError where no network can be built."""
    entry = ARCHITECTURES[name]
    sources = sources_digest(entry.target)
    if sources == entry.sources:
        return ""
    found = _configuration(entry.target, entry.input_shape, _CLASSES, sources)
    return "" if found == entry.configuration else found


@functools.cache
def _configuration(target: str, shape: tuple[int, int, int], classes: int, sources: str) -> str:
    """The digest of what a function builds, from this machine's cache or from a child process."""
    asked = [target, *map(str, shape), str(classes)]
    name = f"network-{digest([*asked, sources, version('keras')])}"
    kept = load(name)
    if isinstance(kept, dict) and isinstance(kept.get("configuration"), str):
        return str(kept["configuration"])
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "prunegrid.workers.identity", *asked],
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        answer = {"error": last}
    if "error" in answer:
        raise ValueError(answer["error"])
    save(name, answer)
    return answer["configuration"]


def describe(target: str, shape: tuple[int, int, int], classes: int) -> str:
    """The digest of what a function builds: layers, by name, their settings and connections, but
    no weights. Imports TensorFlow. Raises whatever the function raises."""
    from prunegrid.workers.device import configure

    configure(1, None)
    from prunegrid.workers.models.base import network_of

    return digest(_plain(network_of(target, shape, classes, seed=0, name="network").get_config()))


def _plain(value: Any) -> Any:
    """As JSON; without what is not set, which a later version of Keras may add to."""
    if isinstance(value, dict):
        kept = {str(k): _plain(v) for k, v in value.items() if k not in _NOISE and v is not None}
        return sorted(kept.items())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def main() -> None:
    target, height, width, channels, classes = sys.argv[1:]
    shape = int(height), int(width), int(channels)
    try:
        configuration = describe(target, shape, int(classes))
        answer = {"configuration": configuration, "sources": sources_digest(target)}
    except Exception as error:
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        answer = {"error": f"{name}{error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

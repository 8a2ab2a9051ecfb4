"""What a network is, apart from its name: the part of a task's key that follows from its function.

An architecture's name does not say what its function builds. What it builds, the model's
configuration as Keras tells it, does, however it is written. The driver imports no TensorFlow: a
child process asks Keras, once for each version of the function's sources. An entry of the catalog
may record its sources and its configuration; then nobody is asked while they are as recorded, and
the name alone is in the key while the configuration is.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prunegrid.workers.cache import load, save
from prunegrid.workers.catalog import ARCHITECTURES
from prunegrid.workers.keys import digest

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


def sources_digest(target: str) -> str:
    """Of the module that a `target` is in, and of what it imports, directly or not, of its own
    package or of none that is installed. Imports none of them. Raises ValueError."""
    found: dict[str, str] = {}
    left = [target.partition(":")[0]]
    own = left[0].partition(".")[0]
    while left:
        module = left.pop()
        top = module.partition(".")[0]
        path = None if top != own and _is_library(top) else _file_of(module)
        if path is None or module in found:
            continue
        content = path.read_bytes()
        found[module] = hashlib.sha256(content).hexdigest()
        left += _imports(content, module, is_package=path.stem == "__init__")
    if not found:
        raise ValueError(f"{target}: no module of that name on this machine")
    return digest(sorted(found.items()), length=12)


@functools.cache
def _imports(content: bytes, module: str, *, is_package: bool) -> tuple[str, ...]:
    """Names that may be modules, of what a module's source imports anywhere in it."""
    package = module if is_package else module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(dots, package) if node.level else dots
            found += (base, *(f"{base}.{alias.name}" for alias in node.names))
    return tuple(found)


def _file_of(module: str) -> Path | None:
    """Its source, found without importing a package of its name; None where there is none."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    places = [Path(spec.origin or "")]
    if rest:
        below = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
        places = [path for b in below for path in (b.with_suffix(".py"), b / "__init__.py")]
    return next((path for path in places if path.suffix == ".py" and path.is_file()), None)


@functools.cache
def _is_library(top: str) -> bool:
    """Installed, or Python's own: rows have the versions of those that matter."""
    path = None if top in sys.stdlib_module_names else _file_of(top)
    return path is None or bool({"site-packages", "dist-packages"} & set(path.parts))


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

"""Code that a user brings: a function by its place, its options, and a version of its meaning.

A grid file names it as `mylab.nets:lenet`. It is looked for beside the grid file, behind all that
Python finds by itself. The driver reads its sources and imports none of them; workers import it
from a copy that travels with their settings, so that every node computes with the same code.
Standard library only.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import re
import socket
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from prunegrid.workers.keys import Scalar, digest, versioned

#: What a grid file can say of an option.
OptionValue: TypeAlias = Scalar | tuple[Scalar, ...]
TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
#: All files of the user's packages together; more is data, and has another way.
MOST_BYTES = 16 * 2**20
_OURS = "prunegrid"


class UserCodeError(ValueError):
    """What a user brings can't be found, imported or called. One line, the cause first."""


@dataclass(frozen=True, kw_only=True)
class UserCode:
    """In a task's key as it is; where something says more about its meaning, that is instead."""

    target: str  #: "module:function"
    options: tuple[tuple[str, OptionValue], ...] = ()  #: keyword arguments, sorted by name
    version: int = versioned(1)  #: its author raises it where the results' meaning changes

    @property
    def is_ours(self) -> bool:
        """Of this program's own, which does not travel."""
        return self.target.partition(".")[0] == _OURS

    def load(self) -> Callable[..., Any]:
        """The function itself. Raises UserCodeError where it can't be imported."""
        module_name, _, name = self.target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserCodeError(
                f"{self.target}: {socket.gethostname()} has no module {error.name!r}; expected it "
                "beside the grid file, or installed"
            ) from error
        except Exception as error:
            raise UserCodeError(f"{self.target}: can't be imported: {cause(error)}") from error
        found = getattr(module, name, None)
        if not callable(found):
            raise UserCodeError(f"{self.target}: {_no_such(module, name)}")
        return found  # type: ignore[no-any-return]

    def call(self, **given: object) -> Any:
        """The function's result, for its options and those of `given` that it has parameters for.
        Raises UserCodeError for an option that it has not, a parameter that nobody gives, and
        whatever the function raises."""
        function = self.load()
        parameters = inspect.signature(function).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        own = dict(self.options)
        if unknown := [name for name in own if name not in parameters and not open_ended]:
            choices = [name for name in parameters if name not in given]
            raise UserCodeError(
                f"{self.target}: expected options of {', '.join(choices) or 'none'}, "
                f"got {', '.join(unknown)}"
            )
        ours = {name: value for name, value in given.items() if open_ended or name in parameters}
        named = {
            name
            for name, p in parameters.items()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        if missing := sorted(named - own.keys() - ours.keys()):
            raise UserCodeError(
                f"{self.target}: nothing is given for its parameter {', '.join(missing)}; expected "
                f"parameters of {', '.join(given)}, and options"
            )
        try:
            return function(**{**ours, **own})
        except Exception as error:
            raise UserCodeError(f"{self.target}: {cause(error)}") from error


def is_target(text: str) -> bool:
    """Whether it has the form `module:function`."""
    return TARGET.fullmatch(text) is not None


def cause(error: BaseException) -> str:
    """An exception in a user's code in one line, with the place there."""
    lines = str(error).strip().splitlines()
    text = type(error).__name__ + (f": {lines[0]}" if lines else "")
    if isinstance(error, SyntaxError):
        return text
    own = [f for f in traceback.extract_tb(error.__traceback__) if not is_installed(f.filename)]
    return f"{text} ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else text


def is_installed(path: str) -> bool:
    """Ours, a library's or Python's own."""
    places = (Path(__file__).parent, Path(sysconfig.get_path("stdlib")))
    return (
        path.startswith("<")
        or bool({"site-packages", "dist-packages"} & set(Path(path).parts))
        or any(Path(path).resolve().is_relative_to(place.resolve()) for place in places)
    )


def _no_such(module: ModuleType, name: str) -> str:
    functions = sorted(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
    near = difflib.get_close_matches(name, functions, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"expected a function of {module.__name__}, got {name!r}{hint}"


# --------------------------------------------------------------------------- sources


def look_beside(grid_file: Path) -> None:
    """From now on modules beside a grid file are found too, behind all others: none of them hides
    an installed one."""
    folder = str(grid_file.resolve().parent)
    if folder not in map(str, sys.path):
        sys.path.append(folder)
        _is_library.cache_clear()


@contextlib.contextmanager
def beside(grid_file: Path) -> Iterator[None]:
    """For a moment, in which nothing is imported: sources are also read from beside that file."""
    folder = str(grid_file.resolve().parent)
    if folder in map(str, sys.path):
        yield
        return
    sys.path.append(folder)
    _is_library.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(folder)
        _is_library.cache_clear()


def sources_digest(target: str) -> str:
    """Of the module that a `target` is in, and of what it imports, directly or not, of its own
    package or of none that is installed. Imports none of them. Raises UserCodeError."""
    found = {
        module: hashlib.sha256(path.read_bytes()).hexdigest()
        for module, path in _sources(target).items()
    }
    return digest(sorted(found.items()), length=12)


def sources_of(targets: Iterable[str]) -> str:
    """As rows have it: "module:function digest" of each, comma-separated. Raises UserCodeError."""
    return ", ".join(f"{target} {sources_digest(target)}" for target in targets)


def _sources(target: str) -> dict[str, Path]:
    """By module. Raises UserCodeError where there is none, or Python can't read one."""
    found: dict[str, Path] = {}
    left = [target.partition(":")[0]]
    own = left[0].partition(".")[0]
    while left:
        module = left.pop()
        top = module.partition(".")[0]
        foreign = top != own and (top == _OURS or _is_library(top))
        path = None if foreign else file_of(module)
        if path is None or module in found:
            continue
        found[module] = path
        try:
            left += _imports(path.read_bytes(), module, is_package=path.stem == "__init__")
        except SyntaxError as error:
            place = f"{path.name}:{error.lineno}"
            raise UserCodeError(
                f"{target}: can't be imported: SyntaxError: {error.msg} ({place})"
            ) from error
    if not found:
        raise UserCodeError(
            f"{target}: no module of that name on this machine; expected it beside the grid file, "
            f"or installed{_without_ending(target)}"
        )
    return found


def _without_ending(target: str) -> str:
    module, _, function = target.partition(":")
    if not module.endswith(".py"):
        return ""
    return f"; did you mean {module.removesuffix('.py')}:{function}?"


@functools.lru_cache(maxsize=1024)
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


def file_of(module: str) -> Path | None:
    """Its source, found without importing a package of its name; None where there is none."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__, of no spec
        return None
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
    if top in sys.stdlib_module_names:
        return True
    spec = importlib.util.find_spec(top)
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin or ""]
    sources = [Path(place) for place in places if place.endswith(".py") or Path(place).is_dir()]
    return not sources or any(
        {"site-packages", "dist-packages"} & set(path.parts) for path in sources
    )


# --------------------------------------------------------------------------- to the workers


@dataclass(frozen=True, kw_only=True)
class TravellingCode:
    """The user's modules, as they travel to workers; what is installed does not."""

    targets: tuple[str, ...] = ()  #: to be importable on each node
    files: tuple[tuple[str, bytes], ...] = ()  #: path below a folder of the search path, content

    @property
    def digest(self) -> str:
        total = hashlib.sha256()
        for name, content in self.files:
            total.update(f"{name} {len(content)}\n".encode() + content)
        return total.hexdigest()[:12]

    @property
    def tops(self) -> frozenset[str]:
        return frozenset(name.partition("/")[0].removesuffix(".py") for name, _ in self.files)

    def install(self) -> None:
        """Have these modules imported from these files, and no others of their names. Once for
        each content; the copy stays as long as the process."""
        if self.files:
            _install(self)

    def check(self) -> None:
        """Raises UserCodeError where a target can't be imported here."""
        self.install()
        for target in self.targets:
            UserCode(target=target).load()


def collect(targets: Iterable[str]) -> TravellingCode:
    """The sources of what a grid names, whole packages. Raises UserCodeError."""
    wanted = tuple(dict.fromkeys(targets))
    files: dict[str, bytes] = {}
    packages: set[Path] = set()
    for target in wanted:
        for module, path in _sources(target).items():
            top, *rest = module.split(".")
            if top == _OURS or _is_library(top):
                continue
            depth = len(rest) + (path.stem == "__init__")
            if depth:
                packages.add(path.parents[depth - 1])
            else:
                files[path.name] = path.read_bytes()
    for package in packages:
        files |= _files_below(package)
    if (size := sum(map(len, files.values()))) > MOST_BYTES:
        raise UserCodeError(
            f"{', '.join(wanted)}: expected at most {MOST_BYTES:,} bytes of files beside it, which "
            f"travel to workers, got {size:,}; install the package on every node instead"
        )
    return TravellingCode(targets=wanted, files=tuple(sorted(files.items())))


def _files_below(package: Path) -> dict[str, bytes]:
    return {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.name[0] != "."
    }


@functools.cache
def _install(code: TravellingCode) -> None:
    folder = Path(tempfile.mkdtemp(prefix="prunegrid-code-"))
    for name, content in code.files:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    for name in [name for name in sys.modules if name.partition(".")[0] in code.tops]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder(str(folder), code.tops))
    importlib.invalidate_caches()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds some top-level modules in one folder; those below them Python finds by itself."""

    def __init__(self, folder: str, tops: frozenset[str]) -> None:
        self._folder = folder
        self._tops = tops

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._tops:
            return None
        return importlib.machinery.PathFinder.find_spec(name, [self._folder])

"""The options of a function or attack: names, types, bounds, defaults and what they are.

They are read once, from where they are declared: an attack's class, or the parameters of a function
that a user brings, whose source is read and not imported. Standard library only.

    def taylor(scoring, *, batches: Annotated[int, Limits(minimum=1)] = 8):
        '''What it does.

        batches: of training images
        '''
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prunegrid.workers.keys import Scalar
from prunegrid.workers.user_code import UserCodeError, file_of

#: How an option multiplies the queries of an image: as steps, or as rounds of all the steps.
Spends = Literal["steps", "rounds"]
OptionType = Literal["int", "float", "bool", "str"]
_DOC = re.compile(r"^ *(\w+): +(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting, as a grid file may give it."""

    name: str
    type: OptionType
    default: Scalar
    doc: str  #: what it is, in a few words
    minimum: float | None = None
    maximum: float | None = None
    #: What `prunegrid tune` searches, on a logarithmic scale; None: it leaves the option alone.
    search: tuple[float, float] | None = None
    #: A budget of queries cuts the rounds of an attack, and then its steps. None: it costs nothing.
    spends: Spends | None = None
    required: bool = False  #: it has no default
    optional: bool = False  #: it may be None

    def typed(self, value: Scalar) -> Scalar:
        """The same value in the option's type. Raises ValueError where there is none."""
        if isinstance(value, bool):
            if self.type == "bool":
                return value
        elif isinstance(value, str):
            if self.type == "str":
                return value
        elif value is None:
            if self.optional:
                return None
        elif self.type in ("int", "float"):
            with contextlib.suppress(OverflowError, ValueError):  # infinity, nan
                number = int(value) if self.type == "int" else float(value)
                if number == value:
                    return number
        raise ValueError(f"{self.name}: expected {self.type}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """In the annotation of a parameter, `Annotated[int, Limits(minimum=1)]`; see Option."""

    minimum: float | None = None
    maximum: float | None = None
    search: tuple[float, float] | None = None
    spends: Spends | None = None


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a function takes."""

    title: str  #: the first sentence of its docstring
    given: tuple[str, ...]  #: parameters that the caller has values for
    options: tuple[Option, ...]

    def complete(self, own: Mapping[str, Scalar]) -> tuple[tuple[str, Scalar], ...]:
        """`own`, and the defaults of all other options, sorted by name."""
        defaults = {option.name: option.default for option in self.options if not option.required}
        return tuple(sorted((defaults | dict(own)).items()))


def read_signature(target: str, given: Collection[str]) -> Signature:
    """Of the function at "module:function". `given`: the parameters that the caller has values for;
    all others are options. Raises UserCodeError where there is no such function, or a parameter
    is no option."""
    module, _, name = target.partition(":")
    return _read(module, name, tuple(given), target)


@functools.lru_cache(maxsize=256)
def _read(module: str, name: str, given: tuple[str, ...], target: str) -> Signature:
    path = file_of(module)
    if path is None:
        raise UserCodeError(
            f"{target}: no module of that name on this machine; expected it beside the grid file, "
            "or installed"
        )
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise UserCodeError(
            f"{target}: can't be imported: SyntaxError: {error.msg} ({path.name}:{error.lineno})"
        ) from error
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _signature(node, given, target, path)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module if path.stem == "__init__" else module.rpartition(".")[0]
                    up = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                    there = f"{up}.{node.module}" if node.level and node.module else node.module
                    return _read(there or up, alias.name, given, target)
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    public = ", ".join(each for each in functions if each[0] != "_")
    choices = f"of {module} ({public})" if public else f"in {path.name}, which defines none"
    raise UserCodeError(f"{target}: expected a function {choices}, got {name!r}")


def _signature(node: ast.FunctionDef, given: tuple[str, ...], target: str, path: Path) -> Signature:
    docs = ast.get_docstring(node) or ""
    said = dict(_DOC.findall(docs))
    places = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(places) - len(node.args.defaults))
    pairs = list(zip(places, [*defaults, *node.args.defaults], strict=True))
    pairs += list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    options = []
    for argument, default in pairs:
        if argument.arg in given:
            continue
        try:
            options.append(_option(argument, default, said.get(argument.arg, "")))
        except ValueError as error:
            raise UserCodeError(
                f"{target}: parameter {argument.arg} is no option: {error} "
                f"({path.name}:{argument.lineno})"
            ) from error
    title = " ".join(docs.split("\n\n")[0].split()) or node.name
    names = [argument.arg for argument, _ in pairs]
    return Signature(
        title=title, given=tuple(n for n in names if n in given), options=tuple(options)
    )


def _option(argument: ast.arg, default: ast.expr | None, doc: str) -> Option:
    """Raises ValueError."""
    annotation, limits = argument.annotation, {}
    if isinstance(annotation, ast.Subscript) and _last_name(annotation.value) == "Annotated":
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else []
        annotation, calls = parts[0] if parts else None, parts[1:]
        for call in calls:
            if isinstance(call, ast.Call) and _last_name(call.func) == "Limits":
                limits = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
    try:
        value = None if default is None else ast.literal_eval(default)
    except ValueError:
        raise ValueError("expected a number, text, True, False or None as default") from None
    kinds = set() if annotation is None else set(ast.unparse(annotation).split(" | "))
    optional = "None" in kinds
    named = kinds - {"None"} or {type(value).__name__}
    for kind in ("int", "float", "bool", "str"):
        if named == {kind}:
            option = Option(
                name=argument.arg,
                type=kind,
                default=value,
                doc=doc,
                required=default is None,
                optional=optional,
                **limits,
            )
            return option if default is None else _checked(option)
    got = ast.unparse(annotation) if annotation is not None else "no annotation and no default"
    raise ValueError(f"expected int, float, bool or str, got {got}")


def _checked(option: Option) -> Option:
    value = option.typed(option.default)
    return Option(**(vars(option) | {"default": value}))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")

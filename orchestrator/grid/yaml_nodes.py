"""YAML values that know their line: typed reading with errors that name the place.

PyYAML composes the nodes; nothing in a file can construct Python objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import yaml

from prunegrid.orchestrator.errors import GridError, expected

T = TypeVar("T")
_FRACTION = re.compile(r"^\s*([0-9.]+)\s*/\s*([0-9.]+)\s*$")


class Node:
    """One YAML node and the path of keys that leads to it."""

    def __init__(self, node: yaml.Node, *, file: str, path: str) -> None:
        self._node = node
        self._file = file
        self.path = path

    @classmethod
    def parse(cls, text: str, *, file: str) -> Node:
        """The document's root. Raises GridError where the text is not one YAML document."""
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise GridError(
                f"not valid YAML: {error.problem or error.context}",
                file=file,
                line=mark.line + 1 if mark else None,
            ) from error
        except yaml.YAMLError as error:
            raise GridError(f"not valid YAML: {error}", file=file, line=None) from error
        if node is None:
            raise GridError("expected a grid, got an empty file", file=file, line=None)
        return cls(node, file=file, path="")

    def fail(self, message: str) -> GridError:
        where = f"{self.path}: " if self.path else ""
        return GridError(f"{where}{message}", file=self._file, line=self._node.start_mark.line + 1)

    def _child(self, node: yaml.Node, name: object) -> Node:
        path = f"{self.path}.{name}" if self.path else str(name)
        return Node(node, file=self._file, path=path)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self._node, yaml.SequenceNode)

    @property
    def is_null(self) -> bool:
        return self._node.tag == "tag:yaml.org,2002:null"

    @property
    def is_auto(self) -> bool:
        return isinstance(self._node, yaml.ScalarNode) and self._node.value == "auto"

    def _scalar(self, what: str) -> str:
        if not isinstance(self._node, yaml.ScalarNode) or self.is_null:
            raise self.fail(f"expected {what}, got {self._describe()}")
        return str(self._node.value)

    def _describe(self) -> str:
        if self.is_mapping:
            return "a mapping"
        if self.is_list:
            return "a list"
        return "nothing" if self.is_null else repr(self._node.value)

    # ------------------------------------------------------------------ collections

    def mapping(self, known: Iterable[str] | None = None, *, what: str = "") -> dict[str, Node]:
        """Keys to nodes, in file order; an unknown or repeated key is refused at its line."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.fail(f"expected {what or 'a mapping'}, got {self._describe()}")
        choices = None if known is None else list(known)
        out: dict[str, Node] = {}
        for key_node, value_node in self._node.value:
            key = self._child(key_node, getattr(key_node, "value", "?"))
            name = key._scalar("a name as key")
            if name in out:
                raise key.fail("given twice")
            if choices is not None and name not in choices:
                raise key.fail(f"unknown key: {expected(choices, name)}")
            out[name] = self._child(value_node, name)
        return out

    def items(self, *, what: str) -> Iterator[Node]:
        """A non-empty list's nodes."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.fail(f"expected a list of {what}, got {self._describe()}")
        if not self._node.value:
            raise self.fail(f"expected at least one of {what}, got an empty list")
        for index, node in enumerate(self._node.value):
            yield self._child(node, index)

    def unique(self, read: Callable[[Node], T], *, what: str) -> tuple[T, ...]:
        """A non-empty list without duplicates, each item read by `read`."""
        out: list[T] = []
        for item in self.items(what=what):
            value = read(item)
            if value in out:
                raise item.fail(f"{value!r} is given twice")
            out.append(value)
        return tuple(out)

    # ------------------------------------------------------------------ scalars

    def text(self) -> str:
        return self._scalar("a text")

    def choice(self, choices: Iterable[str]) -> str:
        names = list(choices)
        value = self._scalar(f"one of {', '.join(names)}")
        if value not in names:
            raise self.fail(expected(names, value))
        return value

    def boolean(self) -> bool:
        value = self._scalar("true or false")
        if self._node.tag != "tag:yaml.org,2002:bool":
            raise self.fail(f"expected true or false, got {value!r}")
        return value.lower() in ("true", "yes", "on")

    def integer(self, *, minimum: int | None = None, maximum: int | None = None) -> int:
        bounds = _bounds(minimum, maximum)
        value = self._scalar(f"a whole number{bounds}")
        try:
            number = float(value.replace("_", ""))
            whole = int(number)
        except (ValueError, OverflowError):
            raise self.fail(f"expected a whole number{bounds}, got {value!r}") from None
        if whole != number or not _within(whole, minimum, maximum):
            raise self.fail(f"expected a whole number{bounds}, got {value}")
        return whole

    def number(
        self,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        above: float | None = None,
    ) -> float:
        """A finite number; `4/255` is one too."""
        bounds = f" above {above:g}" if above is not None else _bounds(minimum, maximum)
        value = self._scalar(f"a number{bounds}")
        match = _FRACTION.match(value)
        try:
            number = float(match[1]) / float(match[2]) if match else float(value)
        except (ValueError, ZeroDivisionError):
            raise self.fail(f"expected a number{bounds}, got {value!r}") from None
        low = above is not None and number <= above
        if not math.isfinite(number) or low or not _within(number, minimum, maximum):
            raise self.fail(f"expected a number{bounds}, got {value}")
        return number

    def optional(self, read: Callable[[Node], T]) -> T | None:
        return None if self.is_null or self._is_none() else read(self)

    def _is_none(self) -> bool:
        return isinstance(self._node, yaml.ScalarNode) and self._node.value == "none"


def _within(value: float, minimum: float | None, maximum: float | None) -> bool:
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum:g} to {maximum:g}"
    if minimum is not None:
        return f" of at least {minimum:g}"
    return f" of at most {maximum:g}" if maximum is not None else ""


def require(fields: Mapping[str, Node], name: str, parent: Node) -> Node:
    """Raises GridError where a key that has no default is missing."""
    if name not in fields:
        raise parent.fail(f"expected the key {name!r}, which has no default")
    return fields[name]

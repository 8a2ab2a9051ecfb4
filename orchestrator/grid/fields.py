"""The fields of a grid file, each declared once: name, type, bounds, default and meaning.

A `Table` is one mapping of the file, a `Field` one of its keys. Readers, the keys that an error
lists, and the reference in docs/experiment.md are made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from prunegrid.orchestrator.grid.yaml_nodes import Bounds, YamlNode

T = TypeVar("T")
Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a field may hold."""

    text: str  #: in the reference
    read: Callable[[YamlNode], T]  #: raises GridError


class Missing(Enum):
    REQUIRED = "required"


class Field(Generic[T]):
    """One key, named by the attribute of its table."""

    name = ""

    def __init__(
        self,
        kind: Kind[T],
        doc: str,
        *,
        default: T | Missing = Missing.REQUIRED,
        shown: str | None = None,
    ) -> None:
        """`shown`: the default in the reference, where its value does not say it."""
        self.kind = kind
        self.doc = doc
        self.default = default
        self.shown = shown

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def of(self, given: Mapping[str, YamlNode], parent: YamlNode) -> T:
        """What is given, else the default. Raises GridError."""
        if self.name in given:
            return self.kind.read(given[self.name])
        if isinstance(self.default, Missing):
            raise parent.fail(f"expected the key {self.name!r}, which has no default")
        return self.default


class Table:
    """The fields of one mapping. Subclasses declare them; their docstrings say what they set."""

    path: str  #: in the file

    @classmethod
    def fields(cls) -> Iterator[Field[object]]:
        return (field for field in vars(cls).values() if isinstance(field, Field))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in cls.fields())

    @classmethod
    def given(cls, node: YamlNode | None) -> dict[str, object]:
        """The values of the keys that are there. Raises GridError."""
        own = {} if node is None else node.mapping(cls.names())
        return {f.name: f.kind.read(own[f.name]) for f in cls.fields() if f.name in own}

    @classmethod
    def whole(cls, node: YamlNode | None) -> dict[str, object]:
        """The values of all keys, defaults included; no required ones without a node."""
        if node is None:
            return {f.name: f.default for f in cls.fields() if f.default is not Missing.REQUIRED}
        own = node.mapping(cls.names())
        return {field.name: field.of(own, node) for field in cls.fields()}


# --------------------------------------------------------------------------- kinds


def whole(**limits: int | None) -> Kind[int]:
    """Within these Bounds."""
    return Kind(f"whole number{Bounds(**limits)}", lambda node: node.integer(**limits))


def number(**limits: float | None) -> Kind[float]:
    """Within these Bounds."""
    return Kind(f"number{Bounds(**limits)}", lambda node: node.number(**limits))


def choice(names: tuple[Name, ...]) -> Kind[Name]:
    listed = ", ".join(f"`{name}`" for name in names)
    return Kind(f"one of {listed}", lambda node: node.choice(names))


def names_of(catalog: Mapping[str, object], what: str) -> Kind[str]:
    """One of a catalog's names."""
    return Kind(what, lambda node: node.choice(catalog))


def optional(kind: Kind[T]) -> Kind[T | None]:
    return Kind(f"{kind.text}, or `none`", lambda node: node.optional(kind.read))


def unique(kind: Kind[T], what: str) -> Kind[tuple[T, ...]]:
    return Kind(f"list of different {what}", lambda node: node.unique(kind.read, what=what))


def maybe(kind: Kind[T]) -> Kind[T | None]:
    """For a default of None that no value stands for."""
    return Kind(kind.text, kind.read)


def mapping(text: str = "mapping") -> Kind[YamlNode]:
    """Read later."""
    return Kind(text, lambda node: node)


def section(table: type[Table], what: str) -> Kind[Mapping[str, object]]:
    return Kind(what, table.whole)


TEXT: Kind[str] = Kind("text", lambda node: node.text())
BOOLEAN: Kind[bool] = Kind("`true` or `false`", lambda node: node.boolean())

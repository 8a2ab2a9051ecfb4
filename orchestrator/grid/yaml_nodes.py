"""YAML values that know their line: typed reading with errors that name the place.

PyYAML composes the nodes; nothing in a file can construct Python objects.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import yaml

from prunegrid.orchestrator.errors import GridError, expected
from prunegrid.orchestrator.names import parse_number
from prunegrid.workers.keys import Scalar
from prunegrid.workers.user_code import OptionValue

T = TypeVar("T")
Name = TypeVar("Name", bound=str)
#: The greatest whole number of a grid: rows hold no greater one.
MOST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a number may be; None: anything."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None  #: which itself is not allowed
    below: float | None = None

    def __contains__(self, value: float | Decimal) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """` of at least 1`, ` between 0 and 1` (neither of them), ...; "" where there are none."""
        least, most, above, below = (
            f"{value:g}" if isinstance(value, float) else str(value)
            for value in (self.minimum, self.maximum, self.above, self.below)
        )
        if self.above is not None and self.below is not None:
            return f" between {above} and {below}"
        if self.minimum is not None and self.maximum is not None:
            return f" from {least} to {most}"
        low = "" if self.above is None else f" above {above}"
        low = low if self.minimum is None else f" of at least {least}"
        high = "" if self.maximum is None else f"at most {most}"
        return f"{low} and {high}" if low and high else f" of {high}" if high else low


class YamlNode:
    """One YAML node and the path of keys that leads to it."""

    def __init__(self, node: yaml.Node, *, file: str, path: str) -> None:
        self._node = node
        self._file = file
        self.path = path

    @classmethod
    def parse(cls, text: str, *, file: str) -> YamlNode:
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
        except RecursionError:
            raise GridError("not valid YAML: nested too deep", file=file, line=None) from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as "\UFFFFFFFF"
            text = " ".join(str(error).split())
            raise GridError(f"not valid YAML: {text}", file=file, line=None) from error
        if node is None:
            raise GridError("expected a grid, got an empty file", file=file, line=None)
        return cls(node, file=file, path="")

    def fail(self, message: str) -> GridError:
        where = f"{self.path}: " if self.path else ""
        return GridError(f"{where}{message}", file=self._file, line=self._node.start_mark.line + 1)

    def beside(self, path: str) -> str:
        """A path as the file means it: from the file's own folder."""
        return os.path.join(os.path.dirname(os.path.abspath(self._file)), os.path.expanduser(path))

    def _child(self, node: yaml.Node, name: object) -> YamlNode:
        path = f"{self.path}.{name}" if self.path else str(name)
        return YamlNode(node, file=self._file, path=path)

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
        text = str(self._node.value)
        if any("\ud800" <= char <= "\udfff" for char in text):  # half a character: no file holds it
            raise self.fail(f"expected {what}, got {text!r}")
        return text

    def _describe(self) -> str:
        if self.is_mapping:
            return "a mapping"
        if self.is_list:
            return "a list"
        return "nothing" if self.is_null else repr(self._node.value)

    # ------------------------------------------------------------------ collections

    def mapping(self, known: Iterable[str] | None = None, *, what: str = "") -> dict[str, YamlNode]:
        """Keys to nodes, in file order; an unknown or repeated key is refused at its line."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.fail(f"expected {what or 'a mapping'}, got {self._describe()}")
        choices = None if known is None else list(known)
        out: dict[str, YamlNode] = {}
        for key_node, value_node in self._node.value:
            is_scalar = isinstance(key_node, yaml.ScalarNode)
            key = self._child(key_node, key_node.value if is_scalar else "?")
            name = key._scalar("a name as key")
            if name in out:
                raise key.fail("given twice")
            if choices is not None and name not in choices:
                raise key.fail(f"unknown key: {expected(choices, name)}")
            out[name] = self._child(value_node, name)
        return out

    def items(self, *, what: str) -> Iterator[YamlNode]:
        """A non-empty list's nodes."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.fail(f"expected a list of {what}, got {self._describe()}")
        if not self._node.value:
            raise self.fail(f"expected at least one of {what}, got an empty list")
        for index, node in enumerate(self._node.value):
            yield self._child(node, index)

    def unique(self, read: Callable[[YamlNode], T], *, what: str) -> tuple[T, ...]:
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

    def choice(self, choices: Iterable[Name]) -> Name:
        names = list(choices)
        value = self._scalar(f"one of {', '.join(names)}")
        for name in names:
            if name == value:
                return name
        raise self.fail(expected(names, value))

    def boolean(self) -> bool:
        value = self._scalar("true or false")
        if self._node.tag != "tag:yaml.org,2002:bool":
            raise self.fail(f"expected true or false, got {value!r}")
        return value.lower() in ("true", "yes", "on")

    def integer(self, **limits: int | None) -> int:
        """Exact, within these Bounds, and at most MOST where no maximum is given; `2.0` and `1e3`
        are whole too."""
        bounds = Bounds(**limits)
        value = self._scalar(f"a whole number{bounds}")
        try:
            number = Decimal(value.replace("_", ""))
        except InvalidOperation:
            raise self.fail(f"expected a whole number{bounds}, got {value!r}") from None
        is_whole = number.is_finite() and number == number.to_integral_value()
        if not is_whole or number not in bounds:
            raise self.fail(f"expected a whole number{bounds}, got {value}")
        if bounds.maximum is None and number.copy_abs() > MOST:
            raise self.fail(f"expected a whole number of at most {MOST}, got {value}")
        return int(number)

    def number(self, **limits: float | None) -> float:
        """A finite number within these Bounds; `4/255` is one too."""
        bounds = Bounds(**limits)
        value = self._scalar(f"a number{bounds}")
        try:
            number = float(parse_number(value))
        except (ValueError, OverflowError):
            raise self.fail(f"expected a number{bounds}, got {value!r}") from None
        if not math.isfinite(number) or number not in bounds:
            raise self.fail(f"expected a number{bounds}, got {value}")
        return number

    def value(self) -> OptionValue:
        """What YAML says: true or false, a number, a text, `none`, or a list of these."""
        if isinstance(self._node, yaml.SequenceNode):
            return tuple(child._plain() for child in self.items(what="values"))
        return self._plain()

    def _plain(self) -> Scalar:
        if self.is_null or self._is_none():
            return None
        text = self._scalar("a value")
        if self._node.tag == "tag:yaml.org,2002:bool":
            return self.boolean()
        if isinstance(self._node, yaml.ScalarNode) and not self._node.style:  # not in quotes
            try:
                number = parse_number(text.replace("_", ""))
            except (ValueError, OverflowError):
                return text
            return number if math.isfinite(number) else text
        return text

    def optional(self, read: Callable[[YamlNode], T]) -> T | None:
        return None if self.is_null or self._is_none() else read(self)

    def _is_none(self) -> bool:
        return isinstance(self._node, yaml.ScalarNode) and self._node.value == "none"

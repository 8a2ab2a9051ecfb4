"""JSON from outside, and parsed JSON to frozen dataclasses with every type checked."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_AT = re.compile(r" - at `\$(.*)`$")


def parse_json(content: str | bytes) -> Any:
    """Raises ValueError, also for what is no text, or nested too deep for the parser."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None


def from_dict(cls: type[T], raw: object) -> T:
    """A dataclass, nested ones and tuples included, from parsed JSON: a number is no text, a
    fraction no whole number. Raises ValueError, which names the field, what was expected and
    what was got."""
    try:
        value = msgspec.convert(raw, cls)
    except msgspec.ValidationError as error:
        text = str(error)
        where = found[1] if (found := _AT.search(text)) else ""
        problem = _AT.sub("", text).replace("`", "")
        raise ValueError(f"{cls.__name__}{where}: {problem[:1].lower()}{problem[1:]}") from None
    _refuse_unknown(value, raw, cls.__name__)
    return value


def _refuse_unknown(value: object, raw: object, where: str) -> None:
    """msgspec passes over fields that a dataclass has not."""
    if isinstance(value, tuple) and isinstance(raw, list | tuple):
        for item, its_raw in zip(value, raw, strict=True):
            _refuse_unknown(item, its_raw, where)
    elif dataclasses.is_dataclass(value) and isinstance(raw, Mapping):
        known = {field.name for field in dataclasses.fields(value)}
        if unknown := set(raw) - known:
            raise ValueError(f"{where}: unknown field {sorted(unknown)}, expected {sorted(known)}")
        for name, its_raw in raw.items():
            _refuse_unknown(getattr(value, name), its_raw, f"{where}.{name}")

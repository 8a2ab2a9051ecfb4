"""Hashes, derived seeds and JSON of frozen dataclasses: the arithmetic under task keys.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, Union

#: A setting's value in a task: what YAML can say, and what a hash can be taken of.
Scalar: TypeAlias = bool | int | float | str | None


def versioned(hash_default: object) -> Any:
    """A dataclass field added after release: it enters the key only where it differs from
    `hash_default`, which is frozen, so that results made before it existed stay reachable."""
    return dataclasses.field(default=hash_default, metadata={"hash_default": hash_default})


def canonical_json(value: object) -> str:
    """One text per value: sorted keys, shortest round-trip floats, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hashable(value: object) -> object:
    """`value` as JSON-ready data, without fields that hold their frozen `hash_default`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _hashable_fields(value)  # type: ignore[arg-type]
    if isinstance(value, tuple | list):
        return [hashable(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # rate 2 and rate 2.0 are the same work
    return value


@functools.lru_cache(maxsize=4096)  # a grid's 16 000 tasks share a few dozen settings
def _hashable_fields(value: Any) -> dict[str, object]:
    out = {}
    for f in dataclasses.fields(value):
        item = getattr(value, f.name)
        if "hash_default" in f.metadata and item == f.metadata["hash_default"]:
            continue
        out[f.name] = hashable(item)
    return out


def digest(value: object, *, length: int = 20) -> str:
    """First `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(hashable(value)).encode()).hexdigest()[:length]


def derive_seed(*parts: Scalar) -> int:
    """A seed in [0, 2**63) from named parts: `derive_seed(task.seed, "order", epoch)`.

    Stateless: it depends on the parts alone, so a resumed task draws what an unbroken one drew.
    """
    raw = hashlib.sha256(canonical_json([hashable(part) for part in parts]).encode()).digest()
    return int.from_bytes(raw[:8], "big") >> 1


T = TypeVar("T")


def from_dict(cls: type[T], raw: Mapping[str, Any]) -> T:
    """Build a dataclass of this module from parsed JSON, nested ones and tuples included."""
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = set(raw) - known
    if unknown:
        raise ValueError(
            f"{cls.__name__}: unknown field {sorted(unknown)}, expected {sorted(known)}"
        )
    return cls(**{name: _revive(hints[name], value) for name, value in raw.items()})


def _revive(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        members = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _revive(members[0], value) if len(members) == 1 else value
    if origin is tuple:
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_revive(args[0], item) for item in value)
        return tuple(_revive(arg, item) for arg, item in zip(args, value, strict=True))
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if hint is float and isinstance(value, int):
        return float(value)
    return value

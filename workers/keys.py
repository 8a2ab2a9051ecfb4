"""Hashes and derived seeds of frozen dataclasses: the arithmetic under task keys.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any, TypeAlias

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
    """A dataclass may have a property `outside_key`: names of fields that say nothing about the
    work, such as a path."""
    out = {}
    outside = getattr(value, "outside_key", ())
    for f in dataclasses.fields(value):
        item = getattr(value, f.name)
        if "hash_default" in f.metadata and item == f.metadata["hash_default"]:
            continue
        if f.name in outside:
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

"""How fast this machine is, so that a limit on processor time means the same on every machine."""

from __future__ import annotations

import hashlib
import json
import time


def reference_s() -> float:
    """Processor seconds of a fixed piece of Python, the least of three: 16 000 small nested tasks,
    copied and hashed one by one."""
    return min(_once() for _ in range(3))


def _once() -> float:
    began_s = time.process_time()
    for number in range(16_000):
        task = {"seed": number, "rates": [1.0, 2.0, 4.0, 8.0], "options": {"a": 0.1, "b": [1, 2]}}
        hashlib.sha256(json.dumps(_copied(task), sort_keys=True).encode()).hexdigest()
    return time.process_time() - began_s


def _copied(value: object) -> object:
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value

"""Row files damaged behind our back, of which both ends stay."""

from __future__ import annotations

import random
from pathlib import Path

ENDS = 16


def damage(path: Path, rng: random.Random) -> None:
    """Zero a third of the file, somewhere between its ends: no reader can read it."""
    content = bytearray(path.read_bytes())
    size = len(content) // 3
    start = rng.randrange(ENDS, len(content) - ENDS - size)
    content[start : start + size] = bytes(size)
    path.write_bytes(content)


def flip_bit(path: Path, rng: random.Random) -> None:
    """Which a reader may or may not notice."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(ENDS, len(content) - ENDS)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def row_files(store: Path, *kinds: str) -> list[Path]:
    found = [path for kind in kinds for path in (store / "results" / kind).glob("*.parquet")]
    return sorted(path for path in found if path.stat().st_size > 100)

"""Where a bench's record goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def tell(record: dict[str, Any], out: str | None) -> None:
    """As JSON to standard output, and to a file where one is named."""
    text = json.dumps(record, indent=1)
    print(text)
    if out:
        Path(out).write_text(text + "\n", encoding="utf-8")

"""What other programs read."""

from __future__ import annotations

import json
import sys


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")

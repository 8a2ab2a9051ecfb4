"""Which program made a row: the checkout's git revision, or a digest of the installed sources."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

PACKAGES = ("orchestrator", "workers")


def git_revision(root: Path | None = None) -> str:
    """Of the checkout that this program runs from, "-dirty" if it is; outside of one, as on a
    cluster's nodes, "source-" and the digest of its files.

    Only a repository whose top is the packages' own folder counts: a virtual environment may lie
    within some other one.
    """
    root = root or Path(__file__).resolve().parent.parent
    if (root / ".git").exists():
        try:
            done = subprocess.run(
                ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
                capture_output=True,
                text=True,
                timeout=5,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            pass
    return f"source-{source_digest(root)}"


def source_digest(root: Path) -> str:
    """12 hexadecimal digits of the SHA-256 of all Python files of the packages below `root`,
    names included: equal in a checkout and where it was installed."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name, content = path.relative_to(root).as_posix(), path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]

"""The program's revision, for the rows: a git revision, or a digest of the installed sources."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

PACKAGES = ("orchestrator", "workers")


def git_revision(root: Path | None = None) -> str:
    """The git revision of the checkout that this program runs from, with "-dirty" where files have
    changed. Outside a checkout, as on a cluster's nodes, "source-" and the digest of the files.

    Only a repository whose top is the packages' own folder counts: a virtual environment may lie
    within another one.
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
    """12 hexadecimal digits of the SHA-256 of names and contents of the packages' Python files
    below `root`; the same in a checkout and in an installation of it."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name, content = path.relative_to(root).as_posix(), path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]

"""Which code this process computes with: a digest of its files, and the git revision.

Results are computed by `workers/`, all of it; `orchestrator/` decides and derives, and a row can be
derived again. So the code of a result is the Python files of `workers/`. Standard library only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("orchestrator", "workers")
_WORKERS = Path(__file__).resolve().parent


class OtherCode(RuntimeError):  # noqa: N818 - what happened, as the log shows it
    """A worker's code is not the driver's: it computes nothing."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code that a process computes with, taken when it is imported."""

    digest: str
    path: str  #: of the folder that was imported

    def require(self, found: Code | None) -> None:
        """Raises OtherCode where `found`, a worker's, is not this, the driver's. None: it does not
        tell."""
        if found is not None and found.digest == self.digest:
            return
        got = f"{found.digest} in {found.path}" if found else "an older version's, of no digest"
        what, advice = "a worker has other code than the driver", "have one version on every path"
        if found is not None and found.path == self.path:
            what = "the code changed since the driver started"
            advice = "run the same command again to go on with the new code"
        raise OtherCode(f"{what}: expected {self.digest} in {self.path}, got {got}; {advice}")


def code_there() -> Code:
    """Of the files as they are now."""
    return Code(digest=source_digest(_WORKERS.parent, ("workers",)), path=str(_WORKERS))


@functools.cache
def own_revision() -> str:
    """`git_revision` of this process's code, when it was first asked for: at a worker's start."""
    return git_revision()


def git_revision(root: Path | None = None) -> str:
    """The git revision of the checkout that this program runs from, with "-dirty" where files have
    changed. Outside a checkout, as on a cluster's nodes, "source-" and the digest of the files.

    Only a repository whose top is the packages' own folder counts: a virtual environment may lie
    within another one.
    """
    root = root or _WORKERS.parent
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


def source_digest(root: Path, packages: tuple[str, ...] = PACKAGES) -> str:
    """12 hexadecimal digits of the SHA-256 of names and contents of the packages' Python files
    below `root`; the same in a checkout and in an installation of it."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            if not path.stem.isidentifier():
                continue  # an editor's lock file: it can't be imported
            with contextlib.suppress(FileNotFoundError):  # deleted in this moment
                name, content = path.relative_to(root).as_posix(), path.read_bytes()
                digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


#: What this process imports, as the files were when it began to.
CODE = code_there()

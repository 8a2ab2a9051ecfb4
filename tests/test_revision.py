"""Which program made a row, in a checkout and where it was installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from prunegrid.workers.revision import git_revision, source_digest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path):
    """A small repository with both packages in it."""
    for name in ("orchestrator/cli.py", "workers/deep/entry.py"):
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"# {name}\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", "-C", str(tmp_path / "checkout"), *command], check=True)
    return tmp_path / "checkout"


def test_a_checkout_has_its_commit_and_says_when_it_was_changed(checkout):
    clean = git_revision(checkout)
    assert len(clean) == 12
    assert int(clean, 16) >= 0
    (checkout / "orchestrator/cli.py").write_text("changed\n")
    assert git_revision(checkout) == f"{clean}-dirty"


def test_installed_files_have_the_digest_of_their_checkout(checkout, tmp_path):
    installed = tmp_path / "site-packages"
    for package in ("orchestrator", "workers"):
        shutil.copytree(checkout / package, installed / package)
    (installed / "orchestrator/__pycache__").mkdir()
    (installed / "orchestrator/__pycache__/cli.pyc").write_bytes(b"x")
    assert git_revision(installed) == f"source-{source_digest(checkout)}"


@pytest.mark.parametrize("change", ["content", "name"])
def test_any_change_of_a_source_changes_the_digest(checkout, change):
    before = source_digest(checkout)
    path = checkout / "workers/deep/entry.py"
    if change == "content":
        path.write_text("# other\n")
    else:
        path.rename(path.with_name("else.py"))
    assert source_digest(checkout) != before


def test_an_editors_lock_file_is_no_source(checkout):
    before = source_digest(checkout)
    (checkout / "workers/deep/.#entry.py").symlink_to("user@host.4711")
    assert source_digest(checkout) == before


def test_a_repository_around_an_installation_is_not_taken_for_its_own(checkout, tmp_path):
    inside = checkout / "venv/site-packages"
    shutil.copytree(checkout / "workers", inside / "workers")
    assert git_revision(inside).startswith("source-")

"""Stores: opening, what is done, torn and foreign files, and disks that refuse."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.journal import Journal, read_journal
from prunegrid.orchestrator.store.lease import TTL_S
from prunegrid.orchestrator.store.store import MARKER, Store
from prunegrid.workers.files import LocalFiles, StorageError, open_files
from tests.fakes import RUNNER, attempts_of
from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent.parent


def run(folder: Path, store: Path) -> int:
    grid = folder / "grid.yaml"
    grid.write_text(SMALL)
    options = RunOptions(grid=grid, store=str(store), engine="inline", runner=RUNNER)
    return run_grid(options, Console(quiet=True))


#: Root may write anywhere by a capability: without any, permissions bind it too. (24 is
#: PR_CAPBSET_DROP; for another user the call does nothing, and need not.)
WITHOUT_CAPABILITIES = """
import ctypes, os, sys
for capability in range(64):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
RUN = """
import sys
import time
from pathlib import Path
from rich.console import Console
from prunegrid.orchestrator.cli import guarded
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.commands.run import run_grid
from tests.fakes import RUNNER
grid, store = sys.argv[1:]
options = RunOptions(grid=Path(grid), store=store, engine="inline", runner=RUNNER)
sys.exit(guarded(lambda: run_grid(options, Console())))
"""


def run_bound(folder: Path, store: Path) -> tuple[int, str]:
    """`run` in a process whom permissions bind: exit code, standard error."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CAPABILITIES, RUN, str(folder / "grid.yaml"), str(store)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


# --------------------------------------------------------------------------- opening


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match=r"not a prunegrid store: it holds thesis\.tex"):
        Store.open(str(tmp_path))  # no advice to make one here
    with pytest.raises(StoreError, match=r"not a prunegrid store: it holds thesis\.tex"):
        Store.open_or_create(str(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_the_projects_own_folder_is_no_store():
    with pytest.raises(StoreError, match="not a prunegrid store"):
        Store.open_or_create(str(ROOT))


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        Store.open_or_create(str(tmp_path / "file"))


def test_no_store_to_look_at_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match="prunegrid run GRID --store"):
        Store.open(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_a_store_of_a_newer_format_is_refused(tmp_path):
    Store.open_or_create(str(tmp_path / "s"))
    (tmp_path / "s" / MARKER).write_text('{"format": 99}')
    with pytest.raises(StoreError, match="expected store format 1, got 99"):
        Store.open(str(tmp_path / "s"))


def test_a_torn_marker_is_named(tmp_path):
    Store.open_or_create(str(tmp_path / "s"))
    (tmp_path / "s" / MARKER).write_text('{"form')
    with pytest.raises(StoreError, match=r"store\.json is torn"):
        Store.open(str(tmp_path / "s"))


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://", "hdfs://name/path"])
def test_an_address_of_another_kind_is_refused(address):
    with pytest.raises(StorageError, match="expected"):
        open_files(address)


# --------------------------------------------------------------------------- disks that refuse


def test_a_read_only_store_is_a_clear_error_and_nothing_is_lost(tmp_path):
    store = tmp_path / "store"
    assert run(tmp_path, store) == 0
    next((store / "results/images").glob("*.parquet")).unlink()
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    code, message = run_bound(tmp_path, store)
    for folder in folders:
        folder.chmod(0o755)
    assert code == 1, message
    assert "permission denied" in message
    assert len(message.strip().splitlines()) == 1
    assert run(tmp_path, store) == 0
    assert sum(attempts_of(store).values()) == len(attempts_of(store)) + 1


def test_a_full_disk_stops_the_run_and_nothing_is_lost(tmp_path, monkeypatch):
    """From the 20th result on, flushing a file fails as it does on a full disk."""
    store = tmp_path / "store"
    flush = os.fsync

    def full(number: int) -> None:
        if len(list((store / "results/images").glob("*.parquet"))) >= 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(number)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr("prunegrid.orchestrator.driver.retry_policy.LIMIT_S", 0.5)
    with pytest.raises(StoreError, match=r"can't write .*: no space left on the device"):
        run(tmp_path, store)
    monkeypatch.undo()
    before = attempts_of(store)
    finished = {p.stem for p in (store / "results/images").glob("*.parquet")}
    assert len(finished) >= 20
    assert run(tmp_path, store) == 0
    after = attempts_of(store)
    assert all(after[key] == before[key] for key in finished)
    assert len(pd.read_parquet(store / "results/cells")) == 48


def test_no_space_left_reads_as_such(tmp_path):
    files = LocalFiles(tmp_path)
    code = (
        "import sys, resource, signal\nfrom pathlib import Path\n"
        "from prunegrid.workers.files import LocalFiles\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "LocalFiles(Path(sys.argv[1])).write('big', b'x' * 5000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StorageError: can't write" in done.stderr
    assert list(files.list("")) == [], "a torn file must not stay"
    assert os.listdir(tmp_path) == [], "nor what was written aside"


# --------------------------------------------------------------------------- files


def test_a_write_is_whole_or_not_there(tmp_path):
    files = LocalFiles(tmp_path)
    files.write("a/b.txt", b"one")
    files.write("a/b.txt", b"two")
    assert files.read("a/b.txt") == b"two"
    assert [info.path for info in files.list("a")] == ["a/b.txt"]
    files.rename("a/b.txt", "c/d.txt")
    assert not files.exists("a/b.txt")
    files.remove("c/d.txt")
    files.remove("c/d.txt")
    with pytest.raises(FileNotFoundError):
        files.read("c/d.txt")


def test_files_being_written_are_not_listed(tmp_path):
    files = LocalFiles(tmp_path)
    files.write("a/real", b"x")
    (tmp_path / "a/.real.123.tmp").write_bytes(b"half")
    assert [info.path for info in files.list("")] == ["a/real"]


def test_the_journal_is_read_up_to_its_last_whole_line(tmp_path):
    store = Store.open_or_create(str(tmp_path / "s"))
    journal = Journal(store)
    journal.write("start", key="k", attempt=1)
    journal.close()
    with (tmp_path / "s" / journal.path).open("ab") as file:
        file.write(b'{"event": "do')
    assert [entry["event"] for entry in read_journal(store)] == ["start"]


def test_the_old_grid_is_kept(tmp_path):
    store = Store.open_or_create(str(tmp_path / "s"))
    for text in ("a: 1", "a: 2", "a: 2"):
        store.set_grid(text)
    assert store.read_text("grid.yaml") == "a: 2"
    kept = list((tmp_path / "s/history").iterdir())
    assert [path.read_text() for path in kept] == ["a: 1"]


def kill_while_writing(folder: Path, name: str) -> None:
    """`run` into `store`, killed between writing the first such file aside and placing it."""
    code = (
        f"""
import os
real = os.replace, os.link
def place(number, source, target):
    if {name!r} in str(target):
        os.kill(os.getpid(), 9)
    real[number](source, target)
os.replace = lambda *paths: place(0, *paths)
os.link = lambda *paths: place(1, *paths)
"""
        + RUN
    )
    (folder / "grid.yaml").write_text(SMALL)
    command = [sys.executable, "-c", code, str(folder / "grid.yaml"), str(folder / "store")]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert list((folder / "store").rglob(f".{name}*.tmp"))


@pytest.mark.parametrize("name", [MARKER, "lease.json", "000001.json", "cell-", "attack-"])
def test_a_store_whose_driver_was_killed_while_it_wrote_goes_on_and_is_swept(tmp_path, name):
    kill_while_writing(tmp_path, name)
    began_s = time.monotonic()
    assert run(tmp_path, tmp_path / "store") == 0
    assert list((tmp_path / "store").rglob(".*.tmp")) == []
    assert time.monotonic() - began_s < TTL_S, "its driver's process is gone: nothing to wait for"


@pytest.mark.parametrize(
    "name", [".DS_Store", "._x", "lost+found/", ".Trash-1000/", f".store.json.{'0' * 32}.tmp"]
)
def test_what_a_system_puts_into_a_folder_does_not_keep_a_store_out(tmp_path, name):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"x")
    assert run(tmp_path, folder) == 0
    assert (folder / name).exists()


@pytest.mark.parametrize("name", [".bashrc", ".git/", "thesis.tex", ".store.json.tmp"])
def test_a_folder_with_files_of_somebody_is_left_alone(tmp_path, name):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"x")
    with pytest.raises(StoreError, match="not a prunegrid store: it holds"):
        run(tmp_path, folder)
    assert [path.name for path in folder.iterdir()] == [name.strip("/")]

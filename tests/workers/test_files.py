"""One contract over the stores' files: a folder, and a real S3 server on loopback (moto)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.status import status_json
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.files import Files, StorageError, open_files, sweep_temporary
from tests.fakes import RUNNER
from tests.grids import SMALL


@pytest.fixture(params=["folder", "s3"])
def address(request, tmp_path) -> str:
    if request.param == "folder":
        return str(tmp_path / "files")
    return f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}"


@pytest.fixture
def files(address) -> Files:
    return open_files(address)


def test_what_is_written_is_read_and_the_last_write_wins(files):
    files.write("a/b/c.bin", b"one")
    files.write("a/b/c.bin", b"two")
    assert files.read("a/b/c.bin") == b"two"
    assert files.exists("a/b/c.bin")


def test_what_is_written_once_stays(files):
    assert files.write_once("a/b.bin", b"one")
    assert not files.write_once("a/b.bin", b"two")
    assert files.read("a/b.bin") == b"one"
    assert [info.path for info in files.list("a")] == ["a/b.bin"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_writers_at_once_one_is_the_first(links, tmp_path, monkeypatch):
    """`links`: some network mounts have no hard links; there a rename must do."""
    files = open_files(str(tmp_path))
    monkeypatch.setattr(files, "exists", lambda path: False)  # all look before any has written
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    wrote = [files.write_once("a", str(n).encode()) for n in range(3)]
    assert wrote == [True, False, False]
    assert files.read("a") == b"0"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_of_workers_that_race_exactly_one_is_the_first(address, monkeypatch):
    """Each opens the store for itself, and looks before any has written."""
    workers = 4
    barrier = threading.Barrier(workers)

    def write(number: int) -> bool:
        mine = open_files(address)
        monkeypatch.setattr(mine, "exists", lambda path: barrier.wait() < 0)
        return mine.write_once("a/b", str(number).encode())

    with ThreadPoolExecutor(workers) as pool:
        wrote = list(pool.map(write, range(workers)))
    assert sorted(wrote) == [False] * (workers - 1) + [True]
    assert open_files(address).read("a/b") == str(wrote.index(True)).encode()


def test_without_boto3_s3_is_looked_at_and_then_written(s3_bucket, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    files = open_files(f"{s3_bucket}/{uuid.uuid4().hex}")
    assert [files.write_once("a", content) for content in (b"one", b"two")] == [True, False]
    assert files.read("a") == b"one"


def test_a_local_store_has_a_folder_and_an_object_store_none(address, files):
    assert files.folder == (None if address.startswith("s3://") else Path(address))


def refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_what_is_not_there_is_file_not_found(files):
    assert not files.exists("nothing")
    with pytest.raises(FileNotFoundError):
        files.read("nothing")
    files.remove("nothing")
    assert list(files.list("nothing")) == []


def test_lists_are_recursive_relative_and_sized(files):
    files.write("x/1", b"12345")
    files.write("x/y/2", b"")
    files.write("z", b"")
    found = {info.path: info.size_bytes for info in files.list("x")}
    assert found == {"x/1": 5, "x/y/2": 0}


def test_a_renamed_file_replaces_its_target(files):
    files.write("old", b"new content")
    files.write("t/target", b"old content")
    files.rename("old", "t/target")
    assert files.read("t/target") == b"new content"
    assert not files.exists("old")


def test_removed_is_removed(files):
    files.write("a", b"x")
    files.remove("a")
    assert not files.exists("a")


def test_a_whole_grid_runs_resumes_and_verifies(address, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL.replace("seeds: [0, 1]", "seeds: [0]"))
    options = RunOptions(
        grid=grid, store=address, engine="inline", runner=RUNNER, report=tmp_path / "report"
    )
    assert run_grid(options, Console(quiet=True)) == 0
    store = Store.open(address)
    assert list(Verifier(store).findings()) == []
    numbers = status_json(store)
    assert (numbers["cells"], numbers["cells_done"], numbers["remaining"]) == (24, 24, 0)
    victim = next(store.files.list("results/images")).path
    store.files.remove(victim)
    assert status_json(store)["remaining"] == 1
    assert run_grid(options, Console(quiet=True)) == 0
    assert store.files.exists(victim)
    assert (tmp_path / "report/index.html").exists()


def test_a_bucket_that_is_not_there_is_a_clear_error(s3_bucket):
    with pytest.raises(StoreError, match=r"can.t write no-such-bucket/x/store\.json"):
        Store.open_or_create("s3://no-such-bucket/x")


def test_a_server_that_is_gone_is_a_clear_error(s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises((StorageError, StoreError), match="can't"):
        open_files("s3://grids/x").read("store.json")


def test_nothing_secret_is_written_into_a_store(s3_bucket, tmp_path):
    """Credentials come from the environment and stay there."""
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL.replace("seeds: [0, 1]", "seeds: [0]"))
    os.environ["AWS_SECRET_ACCESS_KEY"] = "do-not-write-this"
    try:
        options = RunOptions(grid=grid, store=str(tmp_path / "s"), engine="inline", runner=RUNNER)
        assert run_grid(options, Console(quiet=True)) == 0
    finally:
        os.environ["AWS_SECRET_ACCESS_KEY"] = "test"
    for path in Path(tmp_path / "s").rglob("*"):
        assert not path.is_file() or b"do-not-write-this" not in path.read_bytes()


# --------------------------------------------------------------------------- killed writers


def half_written(folder: Path, then: str) -> subprocess.Popen:
    """A process between writing aside and placing; it prints a line there, then does `then`."""
    code = (
        "import os, sys, time; from pathlib import Path; from prunegrid.workers.files import *;"
        f"place = lambda *_: (print('there', flush=True), {then});"
        "write_aside(Path(sys.argv[1]) / 'results/cell.parquet', b'half', place)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "there\n"
    return writer


def test_what_a_killed_writer_left_is_swept_and_a_living_one_s_is_not(tmp_path):
    dead = half_written(tmp_path, "os.kill(os.getpid(), 9)")
    dead.wait()
    living = half_written(tmp_path, "time.sleep(600)")
    try:
        assert len(list((tmp_path / "results").iterdir())) == 2
        sweep_temporary(tmp_path)
        (left,) = (tmp_path / "results").iterdir()
        assert f"-{living.pid}-" in left.name
    finally:
        living.kill()
        living.wait()
    sweep_temporary(tmp_path)
    assert list((tmp_path / "results").iterdir()) == []


#: Of another host, of earlier versions, and of an unfinished step of `compact`.
OF_UNKNOWN_WRITERS = (
    f".cell.parquet.{'a' * 12}-17-1-{'b' * 32}.tmp",
    f".cell.parquet.-17--{'b' * 32}.tmp",
    f".lease.json.{'b' * 32}.tmp",
    f".{'b' * 32}.parquet",
)
NOT_OURS = ("notes.tmp", ".notes.tmp", f"x.{'b' * 32}.tmp", ".hidden.parquet", f".x.{'b' * 31}.tmp")


def test_an_unknown_writer_s_file_is_swept_once_it_is_old_and_others_never(tmp_path):
    folder, outside = tmp_path / "store/a", tmp_path / "outside"
    folder.mkdir(parents=True)
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    for name in (*OF_UNKNOWN_WRITERS, *NOT_OURS):
        (folder / name).write_bytes(b"x")
        (outside / name).write_bytes(b"x")
    sweep_temporary(tmp_path / "store")
    assert len(list(folder.iterdir())) == len(OF_UNKNOWN_WRITERS) + len(NOT_OURS) + 1
    for path in (*folder.iterdir(), *outside.iterdir()):
        if path.is_file():
            os.utime(path, (0, time.time() - 2 * 3600))
    sweep_temporary(tmp_path / "store")
    assert {path.name for path in folder.iterdir()} == {*NOT_OURS, "link"}
    assert len(list(outside.iterdir())) == len(OF_UNKNOWN_WRITERS) + len(NOT_OURS)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]

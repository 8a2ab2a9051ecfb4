"""Files on S3 through a network that fails: what passes is asked for again, what stays is a
StorageError, and nothing torn is ever left. A real S3 server on loopback (moto), behind one of
ours that plants the faults."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.store.frames import read_rows
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers import layout
from prunegrid.workers.files import ONE_PUT_BYTES, Files, StorageError, open_files
from tests import faulty
from tests.fakes import RUNNER
from tests.faulty import FAULTS, FaultyServer
from tests.grids import SMALL

#: Uploaded in two parts.
LARGE = bytes(range(256)) * (12 * 4096)

#: A step of a multipart upload, by method and query.
STEPS: dict[str, Callable[[str, str], bool]] = {
    "begin": lambda method, path: method == "POST" and path.endswith("?uploads"),
    "part 1": lambda method, path: "partNumber=1&" in path,
    "part 2": lambda method, path: "partNumber=2&" in path,
    "complete": lambda method, path: method == "POST" and "?uploadId=" in path,
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[str, int]]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="faults")
    yield host, port
    server.stop()


@pytest.fixture
def server(upstream, monkeypatch) -> Iterator[FaultyServer]:
    with faulty.faulty(upstream) as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def address() -> str:
    return f"s3://faults/{uuid.uuid4().hex}"


@pytest.fixture
def files(server, address) -> Files:
    return open_files(address)


@pytest.fixture
def impatient(server, address, monkeypatch) -> Files:
    """Two attempts at most, so that what never passes is known soon."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    return open_files(address)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_asked_for_again(files, server, fault):
    server.plan.append(fault)
    files.write("a/b", b"content")
    server.concerns = lambda method, path: method == "GET"
    server.plan.append(fault)
    assert files.read("a/b") == b"content"
    server.plan.append(fault)
    assert [info.path for info in files.list("a")] == ["a/b"]
    server.concerns = lambda method, path: method == "PUT"
    server.plan.append(fault)
    files.rename("a/b", "c")
    assert server.met == [fault] * 4
    assert files.read("c") == b"content"
    assert not files.exists("a/b")


@pytest.mark.parametrize("fault", [*FAULTS, faulty.CONFLICT, faulty.NOT_IMPLEMENTED])
def test_what_is_written_once_meets_the_same_faults(files, server, fault):
    """Also where the reply is lost: the object that the repeated request meets is its own."""
    server.concerns = lambda method, path: method == "PUT"
    server.plan.append(fault)
    assert files.write_once("a", b"mine")
    assert server.met == [fault]
    assert files.read("a") == b"mine"


def test_a_repeated_request_that_meets_another_s_object_has_lost(files, server, monkeypatch):
    monkeypatch.setattr(files, "exists", lambda path: False)
    files.write("a", b"another's")
    server.concerns = lambda method, path: method == "PUT"
    server.plan.append(faulty.SLOW_DOWN)
    assert not files.write_once("a", b"mine")
    assert server.met == [faulty.SLOW_DOWN]
    assert files.read("a") == b"another's"


@pytest.mark.parametrize("step", STEPS)
def test_a_large_upload_goes_on_after_a_fault_at_any_step(files, server, step):
    server.concerns = STEPS[step]
    server.plan.append(faulty.TORN_UPLOAD)
    files.write("large", LARGE)
    assert server.met == [faulty.TORN_UPLOAD]
    assert files.read("large") == LARGE


@pytest.mark.parametrize("fault", [faulty.SLOW_DOWN, faulty.TORN_UPLOAD])
def test_what_stays_is_an_error_that_says_what_was_tried(impatient, server, fault):
    impatient.write("a", b"old")
    server.always = fault
    for verb, act in {
        "write": lambda: impatient.write("a", b"new"),
        "read": lambda: impatient.read("a"),
        "look at": lambda: impatient.exists("a"),
        "list": lambda: list(impatient.list("")),
        "rename": lambda: impatient.rename("a", "b"),
        "remove": lambda: impatient.remove("a"),
    }.items():
        with pytest.raises(StorageError, match=rf"can't {verb} faults/.*(SLOW_DOWN|503|NETWORK)"):
            act()
    server.always = None
    assert impatient.read("a") == b"old"
    assert not impatient.exists("b")


@pytest.mark.parametrize("step", STEPS)
def test_a_large_upload_that_fails_leaves_what_was_there(impatient, server, step):
    impatient.write("old", b"as it was")
    server.concerns, server.always = STEPS[step], faulty.INTERNAL_ERROR
    for path in ("old", "new"):
        with pytest.raises(StorageError, match="can't write"):
            impatient.write(path, LARGE)
    server.always = None
    assert impatient.read("old") == b"as it was"
    assert not impatient.exists("new")


@pytest.mark.parametrize("fault", [faulty.SLOW_DOWN, faulty.RESET, faulty.CONFLICT])
def test_what_can_t_be_written_once_is_an_error(impatient, server, fault):
    server.concerns, server.always = lambda method, path: method == "PUT", fault
    with pytest.raises(StorageError, match="can't write faults/"):
        impatient.write_once("a", b"new")
    assert server.met == [fault] * 2
    server.always = None
    assert not impatient.exists("a")


def test_a_reply_that_never_comes_leaves_a_whole_file(impatient, server):
    """The server has it, we can't know: an error, and a second write is no harm."""
    server.always = faulty.LOST_REPLY
    with pytest.raises(StorageError, match="can't write"):
        impatient.write("a", b"content")
    server.always = None
    assert impatient.read("a") == b"content"
    impatient.write("a", b"content")
    assert impatient.read("a") == b"content"


def test_a_torn_reply_is_never_taken_for_a_file(impatient, server):
    impatient.write("a", b"0123456789" * 1000)
    server.concerns = lambda method, path: method == "GET"
    server.always = faulty.TORN_REPLY
    with pytest.raises(StorageError, match="can't read"):
        impatient.read("a")


@pytest.mark.parametrize(("before", "after"), [(100, 150), (150, 100)])
def test_a_file_replaced_while_it_is_read_is_read_whole(files, server, before, after):
    """Between the question for its size and the one for its bytes."""
    files.write("lease.json", b"a" * before)
    replaced: list[str] = []

    def replace(method: str, path: str) -> bool:
        if method == "GET" and not replaced:
            replaced.append(path)
            files.write("lease.json", b"b" * after)
        return False

    server.concerns = replace
    assert files.read("lease.json") == b"b" * after
    assert replaced


@pytest.mark.parametrize(("size", "requests"), [(ONE_PUT_BYTES, ["PUT"]), (len(LARGE), None)])
def test_small_files_take_one_request(files, server, size, requests):
    files.write("a", LARGE[:size])
    expected = requests or ["POST", "PUT", "PUT", "POST"]
    assert server.requests == expected
    assert files.read("a") == LARGE[:size]


def test_a_grid_through_a_bad_network_ends_with_the_same_cells(server, address, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL.replace("seeds: [0, 1]", "seeds: [0]"))
    cells = []
    for store, every in ((str(tmp_path / "undisturbed"), 0), (address, 25)):
        server.every = every
        options = RunOptions(grid=grid, store=store, engine="inline", runner=RUNNER)
        assert run_grid(options, Console(quiet=True)) == 0
        server.every = 0
        opened = Store.open(store)
        assert list(Verifier(opened).findings()) == []
        cells.append(read_rows(opened.files, layout.CELL_ROWS).sort_values("cell_id"))
    assert set(server.met) == set(FAULTS)
    told = ["started_at", "duration_s", "attempt"]
    undisturbed, disturbed = (c.drop(columns=told).reset_index(drop=True) for c in cells)
    assert len(undisturbed) == 24
    pd.testing.assert_frame_equal(disturbed, undisturbed)

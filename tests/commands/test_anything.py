"""Whatever a file of the store holds, and whatever an argument is: an answer or one message, never
a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunegrid.orchestrator.cli import COMMANDS, app, guarded
from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.store.lease import LEASE, Holder
from prunegrid.orchestrator.store.requests import Pause, Request, set_paused, write_request
from prunegrid.orchestrator.store.store import Store
from tests.data.make_store import GRID, run
from tests.fakes import BROKEN, CAUSE, RUNNER

SMALLER = GRID.replace("magnitude-global-unstructured, ", "")
DEEP = 100_000
LINK = "a link to nothing"
FOLDER = "a folder"
CONTENTS = {
    "deep list": b"[" * DEEP,
    "deep mapping": b'{"a":' * DEEP,
    "deep block": b"- " * DEEP,
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "null": b"null",
    "a number": b"7",
    "a long number": b"9" * 5000,
    "a list": b"[]",
    "a mapping": b"{}",
    "half a character": b'"\\ud800"',
    FOLDER: None,
    LINK: None,
}
#: In place of a value of a JSON file.
VALUES = [None, True, -1, 1e400, 10**400, "", "\x1b[31m\ud800", [], {}, [[[]]], {"a": {}}]
LEASES = "prunegrid.orchestrator.store.lease"
PAUSE = "prunegrid.orchestrator.store.compaction.PAUSE_S"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A store with a file of every kind: half of its rows are merged, a task failed, requests
    wait."""
    store = tmp_path_factory.mktemp("anything") / "store"
    assert run(store, SMALLER.replace("[0, 1]", "[0]")) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PAUSE, 0.0)
        compact(str(store), Terminal())
    (store / CAUSE).touch()
    assert run(store, SMALLER.replace("[0, 1]", f"[0, 1, {BROKEN}]")) == 1
    (store / CAUSE).unlink()
    files = Store.open(str(store)).files
    set_paused(files, Pause(since_s=1.0, by="cli"))
    write_request(files, Request(kind="retry", by="cli", failed=True))
    write_request(files, Request(kind="resume", by="cli"))
    ended = Holder(host="elsewhere", pid=1, process_start="1", renewed_at_s=1.0)
    files.write(LEASE, json.dumps(asdict(ended)).encode())
    files.write("sizes.json", b'{"batches": [], "shards": []}')
    for folder in ("log", "superseded"):
        shutil.rmtree(store / folder)
    return store


def kinds(store: Path) -> list[str]:
    """One file of each kind, merged and single."""
    found: dict[tuple[str, ...], str] = {}
    for path in sorted(store.rglob("*")):
        place = path.relative_to(store)
        if path.is_file():
            merged = path.name.startswith("all-")
            folder = str(place.parent) if place.parts[0] == "results" else place.parts[0]
            name = path.name if folder in (path.name, "models") else ""
            found.setdefault((folder, name, str(merged), path.suffix), str(place))
    return list(found.values())


def commands(store: Path, out: Path) -> Iterator[list[str]]:
    """Those that read a store; `run` is beside."""
    at = ["--store", str(store)]
    task = sorted(path.name for path in (store / "models").glob("train-*"))[0]
    yield ["status", *at]
    yield ["status", *at, "--json"]
    yield ["plan", str(store.with_name("grid.yaml")), *at]
    yield ["explain", task, *at]
    yield ["explain", "train-", *at]
    yield ["retry", "--failed", *at]
    yield ["pause", *at]
    yield ["resume", *at]
    yield ["verify", *at]
    yield ["report", *at, "--out", str(out / "report")]
    yield ["dashboard", *at, "--export", str(out / "page")]
    yield ["calibrate", *at]
    yield ["compact", *at]
    yield ["run"]


def answer(arguments: list[str], store: Path) -> str:
    """Run it in this process. Returns standard error; an exception passes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if arguments == ["run"]:  # which waits for ever where a pause is asked for
                shutil.rmtree(store / "requests", ignore_errors=True)
                remove(store / "paused.json")
                code = guarded(lambda: run_grid(of_run(store), Terminal()))
            else:
                code = guarded(lambda: app(args=arguments, prog_name="prunegrid"))
        except SystemExit as end:
            code = end.code
    assert code in (0, 1, 2)
    assert "Traceback" not in err.getvalue()
    return err.getvalue()


def of_run(store: Path) -> RunOptions:
    grid = store.with_name("grid.yaml")
    return RunOptions(grid=grid, store=str(store), engine="inline", runner=RUNNER)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(path: Path, name: str, content: bytes | None) -> None:
    remove(path)
    if name == FOLDER:
        path.mkdir()
    elif content is None:
        path.symlink_to("/nowhere/at/all")
    else:
        path.write_bytes(content)


def damaged(path: Path, draw: random.Random) -> tuple[str, bytes | None]:
    """What is put in place of a file: one of CONTENTS, or its own content with a change."""
    content = path.read_bytes()
    if draw.random() < 0.5 or not content:
        return draw.choice(list(CONTENTS.items()))
    with contextlib.suppress(ValueError):
        raw = json.loads(content.splitlines()[0])
        place = raw
        while isinstance(place, dict | list) and place:
            key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if draw.random() < 0.4 or not isinstance(place[key], dict | list):
                value = draw.choice(VALUES)
                place[key] = value
                return f"{key}: {value!r}", json.dumps(raw).encode() + b"\n"
            place = place[key]
    changed = bytearray(content)
    at = draw.randrange(len(changed))
    if draw.random() < 0.3:
        return "cut", bytes(changed[:at])
    changed[at : at + 20] = bytes(draw.randrange(256) for _ in changed[at : at + 20])
    return f"changed at {at}", bytes(changed)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """Nor a wait for the heartbeat of a damaged lease."""
    monkeypatch.setattr(PAUSE, 0.0)
    for name, seconds in (("TTL_S", 1.0), ("RENEW_S", 0.3), ("LOOK_S", 0.1)):
        monkeypatch.setattr(f"{LEASES}.{name}", seconds)


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
@given(seed=st.integers(0, 2**32))
def test_whatever_a_file_of_the_store_holds(seed, whole, tmp_path_factory):
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("damaged")
    store = folder / "store"
    shutil.copytree(whole, store)
    shutil.copy(whole.with_name("grid.yaml"), folder)
    file = draw.choice(kinds(store))
    put(store / file, *damaged(store / file, draw))
    for arguments in draw.sample(list(commands(store, folder)), 2):
        answer(arguments, store)
    shutil.rmtree(folder)


@pytest.mark.parametrize("content", ["deep list", "deep block", "no text", FOLDER, LINK])
@pytest.mark.parametrize("file", ["grid.yaml", "store.json", "selection.json"])
def test_what_can_not_be_read_is_named(file, content, whole, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    put(store / file, content, CONTENTS[content])
    told = answer(["status", "--store", str(store)], store)
    if content != LINK:
        assert told.startswith("error: ")
        assert f"{store}/{file}" in told
        assert told.count("\n") == 1


ODD = ["", " ", "-", "--", ".", "/", "/dev/null", "~no-such-user", "s3://", "gs:///", "a\nb"]
ODD += ["nan", "-1", "0", "9" * 40, "1e400", "1/0", "=", "seed=", "=,=", "seed=0\\", "\udcff"]
ODD += ["x" * 5000, "[/red]", "\x1b[31m", "GRID", "STORE", "FILE", "OUT"]
#: What would compute, or listen.
COMPUTE = (
    "measure.measure_sizes",
    "tune.have_grid_tasks",
    "calibrate.have_grid_tasks",
    "export.model_key",
)
COMPUTE += ("calibrate.have_grid_tasks", "dashboard.uvicorn.Server", "check.try_out")
NAMES = ["--store", "--select", "--slots", "--durations-from", "--out", "--against", "--export"]
NAMES += ["--port", "--host", "--json", "--failed", "--data-dir", "--form", "--latency-batch"]
NAMES += ["--attack", "--training", "--trials", "--budget", "--eps", "--vary", "--images", "--seed"]
NAMES += ["--objective", "--marginal", "--left", "--from-authors", "--address", "--report"]
TEXTS = st.text(max_size=8).filter(lambda text: "\0" not in text)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
@given(
    command=st.sampled_from(COMMANDS),
    given=st.lists(st.sampled_from(ODD) | st.sampled_from(NAMES) | TEXTS, max_size=6),
)
def test_whatever_an_argument_is(command, given, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments")
    store = shutil.copytree(whole, folder / "store")
    paths = {"GRID": whole.with_name("grid.yaml"), "STORE": store, "FILE": store / "store.json"}
    paths["OUT"] = folder / "out"
    arguments = [command, *(str(paths.get(text, text)) for text in given)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in COMPUTE:
            patch.setattr(f"prunegrid.orchestrator.commands.{name}", end)
        patch.setattr("prunegrid.orchestrator.driver.launch.run_plan", end)
        patch.setattr("prunegrid.workers.entry.prepare", end)
        answer(arguments, store)
    shutil.rmtree(folder)


def end(*_: object, **__: object) -> None:
    raise SystemExit(0)

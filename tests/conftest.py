"""Shared fixtures. TensorFlow and Ray start once per session, and only where a test needs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from prunegrid.orchestrator.commands import run
from prunegrid.orchestrator.engines.ray.start import keep_to_ourselves
from prunegrid.orchestrator.report import write
from prunegrid.workers import child_process
from tests.warm import WarmPython

# Workers of a local Ray, and child processes, find the packages of this checkout.
ROOT = Path(__file__).resolve().parent.parent
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
)
os.environ.pop("RAY_ADDRESS", None)  # no test joins a cluster of the developer's
keep_to_ourselves()  # Ray reads it when it is first imported, whichever test does so
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each worker would compile TensorFlow anew

# However the tests were started: a signal that is ignored here (under nohup, in the background of a
# script) would be ignored by each driver that a test starts; one that is handled is not.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)  # what rich reads

# A landing is judged on the change, not on the draw; a developer's runs go on looking.
# A busy machine is no reason to fail.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


#: Begun first, so that the workers of xdist end together.
LONGEST_FIRST = ("tests/attacks/", "tests/chaos/", "tests/driver/", "tests/workers/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folders = (n for n, name in enumerate(LONGEST_FIRST) if item.nodeid.startswith(name))
        return next(folders, len(LONGEST_FIRST))

    items.sort(key=place)


class _ByFile(LoadScopeScheduling):
    """Tests of one file run in one worker, all of attacks/ too: what they share is set up once.
    xdist's own groups are ignored: from pytest 9.2 on it no longer tells them to its scheduler."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/attacks" if nodeid.startswith("tests/attacks/") else nodeid.split("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    return _ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files() -> Iterator[None]:
    """Of this process and those it starts, in a folder that goes with the session. Its path is
    short: sockets of Ray's are in it, and a socket's path may have 107 bytes."""
    folder = tempfile.mkdtemp(prefix="pg-")
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    yield
    tempfile.tempdir = None
    os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _warm_children(_temporary_files: None) -> Iterator[None]:
    """What the package asks of child processes is answered by forks of one that has TensorFlow."""
    warm = WarmPython()
    given = SimpleNamespace(run=warm.run, TimeoutExpired=subprocess.TimeoutExpired)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_process, "subprocess", given)
        yield
    warm.close()


@pytest.fixture
def cold_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are started as they are for users."""
    monkeypatch.setattr(child_process, "subprocess", subprocess)


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power: a run's two hundred small files needn't reach the disk one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


_REPORT = run._report


@pytest.fixture(scope="session", autouse=True)
def _report_where_asked() -> Iterator[None]:
    """A run writes its report only where the test says into which folder: it takes longer than all
    else of a run without training, and hundreds of tests never look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_report", lambda *given: given[2].report and _REPORT(*given))
        yield


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run writes its report, as for users."""
    monkeypatch.setattr(run, "_report", _REPORT)


@pytest.fixture
def no_figure_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have all but the PNG, SVG and PDF of each figure, which take most of their time."""
    monkeypatch.setattr(write, "FORMATS", tuple(f for f in write.FORMATS if f != "figures"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout."""
    folder = Path(os.environ.get("PRUNEGRID_SHARED", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"needs the reference material in {folder}")
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data sets, made once per session."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def tensorflow() -> str:
    """TensorFlow, configured as workers do it; the device's name."""
    from prunegrid.workers.device import configure

    return configure(1, None)


@pytest.fixture(autouse=True)
def _configured(request: pytest.FixtureRequest) -> None:
    """Whatever test uses TensorFlow first, it is set up as in a worker."""
    if request.node.get_closest_marker("tf"):
        request.getfixturevalue("tensorflow")


@pytest.fixture(scope="session")
def _ray_ends() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def ray_session(_ray_ends: None) -> None:
    """A Ray of our own with two CPUs, shared by the tests that join it; started anew where a test
    in between was on a cluster."""
    from prunegrid.orchestrator.engines.ray.start import keep_to_ourselves, start_local

    keep_to_ourselves()
    import ray

    if not ray.is_initialized():
        start_local(cpus=2, gpus=0)


#: Serves S3 until its standard input ends.
S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """The address of a bucket on a server of our own, in a process of its own: what other tests do
    to this one is nothing to it."""
    import boto3

    server = subprocess.Popen(
        [sys.executable, "-c", S3_SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    host, port = server.stdout.readline().split()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="grids")
    yield "s3://grids"
    os.environ.clear()
    os.environ.update(before)
    server.stdin.close()
    server.wait(60)
    server.stdout.close()

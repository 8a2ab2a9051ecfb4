"""What runs on a node: its set-up, the watch for spot notices, and main.py in a strange home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cluster import spot_notice

ROOT = Path(__file__).resolve().parent.parent.parent

# --------------------------------------------------------------------------- set-up


_UV = """#!/bin/sh
echo "$@" >>{log}
case "$1 $2" in
  "pip list") echo ray==2.60.0;;
  venv*) for folder in "$@"; do :; done
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\\necho Python 3.12.0\\n' >"$folder/bin/python"
    chmod +x "$folder/bin/python";;
esac
"""


def set_up(tmp_path: Path, *extras: str, driver: bool = False) -> str:
    """Run setup_node.sh with a uv that only writes down what it is asked; returns that."""
    tools, home = tmp_path / "tools", tmp_path / "home"
    tools.mkdir(exist_ok=True)
    home.mkdir(exist_ok=True)
    log = tmp_path / "uv.log"
    log.write_text("")
    script = _UV.format(log=log)
    for name, text in {"uv": script, "nvidia-smi": f"#!/bin/sh\nexit {int(not driver)}\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(ROOT / "cluster/setup_node.sh"), *extras],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text()


def test_a_node_gets_the_extras_it_is_told_at_the_locked_versions(tmp_path):
    asked = set_up(tmp_path, "gpu", "aws")
    assert ".[cluster,mnist5k,gpu,aws]" in asked
    assert "--constraint requirements.lock" in asked


@pytest.mark.parametrize("driver", [True, False])
def test_gpu_libraries_come_where_the_driver_is(tmp_path, driver):
    assert (",gpu]" in set_up(tmp_path, driver=driver)) is driver


def test_set_up_twice_writes_its_line_once_and_keeps_the_environment(tmp_path):
    (tmp_path / "home").mkdir()
    bashrc = tmp_path / "home/.bashrc"
    bashrc.write_text("alias ll='ls -l'")  # no newline at its end
    assert "venv" in set_up(tmp_path)
    assert "venv --quiet" not in set_up(tmp_path)
    lines = bashrc.read_text().split("\n")
    assert lines == ["alias ll='ls -l'", '. "$HOME/.prunegrid.sh"', ""]


def test_a_login_shell_of_a_node_finds_the_program_and_its_cluster(tmp_path):
    set_up(tmp_path)
    home = tmp_path / "home"
    command = "source ~/.bashrc; echo $(command -v python) $RAY_ADDRESS $RAY_AUTH_MODE"
    done = subprocess.run(
        ["bash", "--login", "-c", command],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"{home}/.venvs/prunegrid/bin/python", "auto", "token"]


# --------------------------------------------------------------------------- spot notices


class Metadata(BaseHTTPRequestHandler):
    """A cloud's metadata server: `answers` says what it knows, `seen` what it was asked."""

    answers: dict[str, str]
    seen: list[tuple[str, str]]

    def _answer(self):
        self.seen.append((self.command, self.path))
        flavour = self.headers.get("Metadata-Flavor") == "Google"
        token = self.headers.get("X-aws-ec2-metadata-token") == "the-token"
        asks_token = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") is not None
        text = self.answers.get(self.path)
        self.send_response(200 if text is not None and (flavour or token or asks_token) else 404)
        self.end_headers()
        self.wfile.write((text or "").encode())

    do_GET = do_PUT = _answer  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata():
    Metadata.answers, Metadata.seen = {"/latest/api/token": "the-token"}, []
    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


AWS_PATH = "/latest/meta-data/spot/instance-action"
GCP_PATH = "/computeMetadata/v1/instance/preempted"


@pytest.mark.parametrize(
    ("ask", "path", "before", "notice", "left_s"),
    [
        (spot_notice.aws, AWS_PATH, None, '{"action": "terminate", "time": "x"}', 120),
        (spot_notice.gcp, GCP_PATH, "FALSE", "TRUE", 30),
    ],
)
def test_a_notice_is_seen_when_it_comes(metadata, ask, path, before, notice, left_s):
    if before:
        Metadata.answers[path] = before
    assert ask(metadata) is None
    asked = iter(range(50))

    def ask_now():
        if next(asked) == 3:
            Metadata.answers[path] = notice
        return ask(metadata)

    assert spot_notice.watch(ask_now, every_s=0.001) == left_s
    assert sum(asked == path for _, asked in Metadata.seen) > 2
    assert ("PUT", "/latest/api/token") in Metadata.seen or ask is spot_notice.gcp


def test_no_metadata_server_is_no_notice():
    assert spot_notice.aws("http://127.0.0.1:9") is None
    assert spot_notice.gcp("http://127.0.0.1:9") is None


# --------------------------------------------------------------------------- main.py


def run_main(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=script.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_main_copied_into_a_home_runs_the_installed_program(tmp_path):
    """As `ray submit` does it; what lies in the home must not be taken for a package."""
    for name in ("orchestrator.py", "workers.py", "requests.py", "typer.py"):
        (tmp_path / name).write_text("raise SystemExit('taken from the home')\n")
    script = shutil.copy(ROOT / "orchestrator/main.py", tmp_path)
    done = run_main(Path(script), "--help", PYTHONPATH=str(ROOT / "src"))
    assert done.returncode == 0, done.stderr
    assert "--store" in done.stdout


def test_main_in_a_working_directory_takes_the_packages_beside_it(tmp_path):
    """As `ray job submit --working-dir` does it; and no module of orchestrator/ hides another."""
    package = tmp_path / "orchestrator"
    package.mkdir()
    sources = tmp_path / "src/prunegrid"
    sources.mkdir(parents=True)
    (sources / "__init__.py").touch()
    (sources / "orchestrator").symlink_to("../../orchestrator")
    shutil.copy(ROOT / "orchestrator/main.py", package)
    (package / "__init__.py").write_text("")
    (package / "json.py").write_text("raise SystemExit('hides json')\n")
    (package / "cli.py").write_text("import json\ndef main(a):\n    print('this one', a)\n")
    done = run_main(package / "main.py", "grid.yaml", PYTHONPATH=str(ROOT / "src"))
    assert done.stdout == "this one ['run', 'grid.yaml']\n", done.stderr


def test_a_dashboard_is_no_cluster_to_join(tmp_path):
    script = ROOT / "orchestrator/main.py"
    done = run_main(script, "grid.yaml", "--store", "/s", RAY_ADDRESS="http://localhost:8265")
    assert done.returncode == 2
    assert "http://localhost:8265, a dashboard" in done.stderr
    assert "expected auto, host:port, or none" in done.stderr


def test_a_relative_store_on_a_cluster_is_refused_with_what_to_give(tmp_path):
    (tmp_path / "grid.yaml").write_text("name: x\n")
    done = run_main(
        ROOT / "orchestrator/main.py",
        str(tmp_path / "grid.yaml"),
        "--store",
        "results",
        RAY_ADDRESS="127.0.0.1:1",
    )
    assert done.returncode == 2
    assert "error: --store results: workers of the cluster at 127.0.0.1:1" in done.stderr
    assert "expected an absolute path that all nodes share, s3://" in done.stderr

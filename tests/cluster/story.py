"""What a researcher does with machines of their own, command by command."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pandas as pd

from tests.cluster.laptop import Laptop
from tests.cluster.machines import HOME, SHARED, Machine

COORDINATES = ["architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps"]
VALUES = ["robust_accuracy", "n_images"]
#: Ray's log as people read it, also where it is written to a file.
PLAIN = "--log-style=pretty --log-color=false"
CLUSTER = "cluster/onprem.yaml"
HTTP = "--address http://localhost:8265"
LIMIT_S = 1800.0


def tell(laptop: Laptop, machines: list[Machine], *, grid: str, select: str) -> None:
    """Raises AssertionError where anything is not as it should be."""
    work = f"{grid} --select {select}"
    _prepare(laptop, machines)
    _up(laptop)
    submitted = _ray_submit(laptop, work)
    job = _ray_job_submit(laptop, *machines[1:], work)
    compare(laptop, submitted, job)
    laptop.say("The cluster goes; what it found stays.")
    laptop.run(f"ray down --yes {PLAIN} {CLUSTER}")
    gone_s = time.monotonic()
    while left := _ray_processes():
        assert time.monotonic() < gone_s + 300, f"still there after `ray down`: {left}"
        time.sleep(1)
    took_s = time.monotonic() - gone_s
    laptop.say(f"{took_s:.0f} s later the workers, too, had noticed: no process of Ray was left.")
    laptop.run(f"prunegrid status --store {job}")


def _prepare(laptop: Laptop, machines: list[Machine]) -> None:
    head, *workers = machines
    laptop.say(
        "A laptop, and three machines that it reaches by SSH. Once: the program on the laptop, a\n"
        "key that the machines know, a token for the cluster, and the machines' addresses."
    )
    python = laptop.environment["PRUNEGRID_PYTHON"]
    laptop.run(f"uv venv --quiet --python {python}")
    laptop.run("uv pip install --quiet --constraint requirements.lock '.[cluster,mnist5k]'")
    laptop.export(
        "PATH", f"{HOME}/prunegrid/.venv/bin:{laptop.environment['PATH']}", "$PWD/.venv/bin:$PATH"
    )
    laptop.export("RAY_AUTH_MODE", "token")
    laptop.run("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    key = (HOME / ".ssh/id_ed25519.pub").read_text()
    for machine in machines:
        (machine.root / "home/.ssh/authorized_keys").write_text(key)
    laptop.run("ray get-auth-token --generate >/dev/null")
    ips = ", ".join(worker.address for worker in workers)
    laptop.run(
        f"sed -i -e 's/^  head_ip:.*/  head_ip: {head.address}/' "
        f"-e 's/^  worker_ips:.*/  worker_ips: [{ips}]/' "
        f"-e 's/ray start /ray start --num-cpus=1 /' {CLUSTER}"
    )


def _up(laptop: Laptop) -> None:
    laptop.say("Up: the project goes to the head, the head sets the workers up.")
    laptop.run(f"ray up --yes {PLAIN} {CLUSTER}")
    end_s = time.monotonic() + 600
    while "\n 3 local.cluster.node" not in laptop.run(
        f"ray exec {PLAIN} {CLUSTER} 'ray status'", quiet=True
    ):
        assert time.monotonic() < end_s, "the workers did not join within 10 minutes"
        time.sleep(5)
    laptop.run(f"ray exec {PLAIN} {CLUSTER} 'ray status'")


def _ray_submit(laptop: Laptop, work: str) -> Path:
    store = SHARED / "submitted"
    laptop.say("By `ray submit`, which copies main.py to the head and runs it there.")
    command = f"ray submit {PLAIN} {CLUSTER} orchestrator/main.py -- {work} --store {store}"
    laptop.run(command, limit_s=LIMIT_S)
    laptop.run(f"ray exec {PLAIN} {CLUSTER} 'prunegrid verify --store {store}'")
    laptop.say("Again: nothing is left to do.")
    said = laptop.run(command)
    assert "all done" in said
    return store


def _ray_job_submit(laptop: Laptop, leaver: Machine, victim: Machine, work: str) -> Path:
    store = SHARED / "job"
    laptop.say(
        "By `ray job submit`, through the head's dashboard, which listens on the head's loopback\n"
        "alone and asks for the token."
    )
    laptop.start(f"ray dashboard {CLUSTER}")
    _wait_for_port()
    laptop.run(f"RAY_AUTH_MODE=disabled ray job list {HTTP} 2>&1 | tail -n 1")
    program = "python orchestrator/main.py"
    submit = f"ray job submit {HTTP} --working-dir . --"
    said = laptop.run(f"{submit} {program} {work} --store results", expect=1)
    assert "expected an absolute path that all nodes share" in said
    job = laptop.start(f"{submit} {program} {work} --store {store}")
    _wait_for_results(job, store, 5)
    victim.switch_off()
    laptop.say(f"Five results are in. {victim.name} is switched off, without a word.")
    _wait_for_results(job, store, 10)
    laptop.say(
        f"Ten. {leaver.name} is told that it is to go, as a cloud would tell a spot machine."
    )
    notice = "python ~/prunegrid/cluster/spot_notice.py now"
    ssh = "ssh -i ~/.ssh/id_ed25519 -o StrictHostKeyChecking=no -o LogLevel=ERROR"
    laptop.run(f"{ssh} researcher@{leaver.address} '. ~/.prunegrid.sh; {notice}'")
    laptop.say("What the job said, when it had ended:")
    said = laptop.finish(job)
    assert "succeeded" in said
    journal = "".join(path.read_text() for path in (store / "journal").iterdir())
    assert f"node {victim.name}/" in journal
    assert f"node {leaver.name}/" in journal
    laptop.run(f'grep -ho \'"text":"node [^"]*\' {store}/journal/*')
    laptop.run(f"ray exec {PLAIN} {CLUSTER} 'prunegrid verify --store {store}'")
    return store


def _wait_for_results(job: subprocess.Popen[bytes], store: Path, count: int) -> None:
    end_s = time.monotonic() + LIMIT_S
    while len(list((store / "results/images").glob("*.parquet"))) < count:
        assert job.poll() is None, "the job ended early"
        assert time.monotonic() < end_s, "the job did not get going"
        time.sleep(0.2)


def compare(laptop: Laptop, one: Path, other: Path) -> None:
    """Both ways, one of them with a loss in the middle, must find the same."""
    frames = [
        pd.read_parquet(store / "results/cells").sort_values(COORDINATES)[COORDINATES + VALUES]
        for store in (one, other)
    ]
    first, second = (frame.reset_index(drop=True) for frame in frames)
    pd.testing.assert_frame_equal(first, second)
    assert len(first)
    assert not first.duplicated(COORDINATES).any()
    laptop.say(f"{len(first)} cells each, equal value by value.")


def _wait_for_port() -> None:
    import socket

    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 8265)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("`ray dashboard` forwards no port")


def _ray_processes() -> list[str]:
    """Of all machines: their processes are below ours."""
    listed = subprocess.run(["ps", "-eo", "comm="], stdout=subprocess.PIPE, text=True, check=True)
    return [name for name in listed.stdout.split() if name in ("raylet", "gcs_server")]

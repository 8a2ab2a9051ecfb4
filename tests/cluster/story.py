"""What a researcher does with machines of their own, command by command."""

from __future__ import annotations

import time

import pandas as pd

from tests.cluster.laptop import Laptop
from tests.cluster.machines import HOME, SHARED, Machine

COORDINATES = ["architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps"]
PLAIN = "--log-style=pretty --log-color=false"
VALUES = ["robust_accuracy", "n_images"]


def tell(laptop: Laptop, machines: list[Machine], *, grid: str, select: str) -> None:
    """Raises AssertionError where anything is not as it should be."""
    _prepare(laptop, machines)
    _up(laptop, machines)
    by_submit = _ray_submit(laptop, grid, select)
    laptop.run(f"ray down --yes {PLAIN} cluster/onprem.yaml")
    print(by_submit)


def _prepare(laptop: Laptop, machines: list[Machine]) -> None:
    head, *workers = machines
    laptop.say("A laptop, and three machines that it reaches by SSH. Once: the program, a key, a\n"
               "token for the cluster, and the machines' addresses.")
    laptop.run("bash cluster/setup_node.sh")
    laptop.run("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    key = HOME / ".ssh/id_ed25519.pub"
    for machine in machines:
        (machine.root / "home/.ssh/authorized_keys").write_text(key.read_text())
    laptop.run("ray get-auth-token --generate >/dev/null")
    ips = ", ".join(worker.address for worker in workers)
    laptop.run(
        f"sed -i -e 's/^  head_ip:.*/  head_ip: {head.address}/' "
        f"-e 's/^  worker_ips:.*/  worker_ips: [{ips}]/' "
        "-e 's/ray start /ray start --num-cpus=1 /' cluster/onprem.yaml"
    )


def _up(laptop: Laptop, machines: list[Machine]) -> None:
    laptop.run(f"ray up --yes {PLAIN} cluster/onprem.yaml")
    end_s = time.monotonic() + 300
    while True:
        said = laptop.run(f"ray exec {PLAIN} cluster/onprem.yaml 'ray status'")
        if said.count(" local.cluster.node") and "3 local.cluster.node" in said:
            break
        assert time.monotonic() < end_s, "the workers did not join"
        time.sleep(10)


def _ray_submit(laptop: Laptop, grid: str, select: str) -> pd.DataFrame:
    store = SHARED / "submitted"
    laptop.run(
        f"ray submit {PLAIN} cluster/onprem.yaml orchestrator/main.py -- {grid} --store {store} "
        f"--select {select}",
        limit_s=1800,
    )
    laptop.run(f"ray exec {PLAIN} cluster/onprem.yaml 'prunegrid verify --store {store}'")
    frame = pd.read_parquet(store / "results/cells")
    return frame.sort_values(COORDINATES).reset_index(drop=True)

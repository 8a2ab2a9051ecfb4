"""Slurm itself on machines made of namespaces: munged and slurmctld here, munged and slurmd on each
machine. They end with the namespaces."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.machines import NETWORK, Machine

LOGIN = "login"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
#: Two partitions on the same machines: jobs of `urgent` send those of `normal` back into the queue,
#: with 45 s of grace. `cred_expire`: a job that was sent back is eligible again after so many
#: seconds, not 2 minutes. `OverTimeLimit=0`: the limit is the limit.
_CONF = """
ClusterName=lab
SlurmctldHost={login}({network}1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=5,bf_interval=5
MpiDefault=none
NodeName={nodes} CPUs=2 State=UNKNOWN
PartitionName=normal Nodes={nodes} Default=YES PriorityTier=1 GraceTime=45 MaxTime=INFINITE
PartitionName=urgent Nodes={nodes} PriorityTier=2 MaxTime=INFINITE
"""


def start_slurm(root: Path, machines: Sequence[Machine]) -> dict[str, str]:
    """Returns what the shells of people need. Call it in namespaces of one's own."""
    root.mkdir()
    for name in ("state", "munge"):
        (root / name).mkdir()
    conf, key, hosts = root / "slurm.conf", root / "munge" / "key", root / "hosts"
    names = ",".join(machine.name for machine in machines)
    conf.write_text(_CONF.format(login=LOGIN, network=NETWORK, root=root, nodes=names).lstrip())
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    addresses = [("127.0.0.1", "localhost"), (f"{NETWORK}1", LOGIN)]
    addresses += [(machine.address, machine.name) for machine in machines]
    hosts.write_text("".join(f"{address} {name}\n" for address, name in addresses))
    subprocess.run(["hostname", LOGIN], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    _start(root, LOGIN, f"exec slurmctld -D -f {conf}", hosts=hosts, key=key)
    for machine in machines:
        inside = ("nsenter", "-a", "-t", str(machine.pid))
        command = f"exec slurmd -D -f {conf} -N {machine.name}"
        _start(root, machine.name, command, hosts=hosts, key=key, inside=inside)
    environment = {"SLURM_CONF": str(conf), "SLURM_TIME_FORMAT": "%T"}
    _wait_until_idle(len(machines), environment)
    return environment


# Parameters: a daemon, and what it needs of its machine.
def _start(
    root: Path, name: str, command: str, *, hosts: Path, key: Path, inside: Sequence[str] = ()
) -> None:
    """munged, then a daemon of Slurm, on one machine."""
    munged = f"munged --force --key-file={key} --log-file={root}/munge/{name}.log"
    munged += f" --pid-file=/run/munge/pid --seed-file={root}/munge/{name}.seed"
    script = (
        f"set -e; mount --bind {hosts} /etc/hosts; mkdir -p /run/munge; chmod 755 /run/munge; "
        f"{munged}; {command}"
    )
    with (root / f"{name}.out").open("wb") as out:
        subprocess.Popen(
            [*inside, "sh", "-c", script],
            env=os.environ | {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def _wait_until_idle(count: int, environment: dict[str, str]) -> None:
    end_s = time.monotonic() + 60
    while True:
        done = subprocess.run(
            ["sinfo", "-h", "-p", "normal", "-t", "idle", "-o", "%D"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.strip() == str(count):
            return
        assert time.monotonic() < end_s, (
            f"Slurm's machines are not idle: {done.stdout}{done.stderr}"
        )
        time.sleep(0.5)

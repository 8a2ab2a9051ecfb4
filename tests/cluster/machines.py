"""Machines of one's own, made of Linux namespaces: each has its processes, its home and /tmp, its
host name and address, and an SSH server; together they have a network that nobody else sees.

Nothing listens beyond that network, and it ends with the process that made it.
"""

from __future__ import annotations

import os
import subprocess
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path("/home/researcher")
SHARED = Path("/srv/shared")  #: all machines see it, as they would an NFS mount
NETWORK = "10.77.0."
_NODE = """
set -e
hostname {name}
mount --bind {root}/home {home}
mount --bind {root}/tmp /tmp
mount -t tmpfs none /run
mkdir /run/sshd
echo ready >{root}/ready
read _ <{root}/go
exec /usr/sbin/sshd -D -e -f {root}/sshd_config 2>{root}/sshd.log
"""
_SSHD = """
ListenAddress {address}
Port 22
HostKey {root}/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
MaxSessions 64
MaxStartups 64
SetEnv {environment}
"""


@dataclass(kw_only=True)
class Machine:
    """A machine that has been switched on; `pid` is its first process."""

    name: str
    address: str
    root: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        """Of the machine's init, as its maker sees it: unshare's one child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def switch_off(self) -> None:
        """As by the power button: its init ends, and the kernel ends all else with it."""
        if self.process.poll() is None:
            os.kill(self.pid, 9)
            self.process.wait()


def make_house(root: Path, opt: dict[str, Path]) -> None:
    """What all machines see: an /opt with folders of this one, /srv/shared, and a user. Call it,
    as all here, in namespaces of one's own (`unshare -pfnmu --mount-proc`)."""
    for name in ("opt", "shared"):
        (root / name).mkdir()
    for name, folder in opt.items():
        (root / "opt" / name).mkdir()
        _run(f"mount --bind {folder} {root}/opt/{name}")
    _run(f"mount --rbind {root}/opt /opt")
    for folder in (SHARED, HOME):
        _run(f"mount -t tmpfs none {folder.parent}")
        folder.mkdir()
    _run(f"mount --bind {root}/shared {SHARED}")
    _run(f"mount --bind {root}/laptop {HOME}")
    users = "".join(
        line
        for line in Path("/etc/passwd").read_text().splitlines(keepends=True)
        if line.split(":")[2] != "0"
    )
    (root / "passwd").write_text(f"researcher:x:0:0::{HOME}:/bin/bash\n{users}")
    _run(f"mount --bind {root}/passwd /etc/passwd")
    (root / "shadow").write_text("researcher:*:19000:0:99999:7:::\n")
    _run(f"mount --bind {root}/shadow /etc/shadow")


def make_home(home: Path) -> None:
    """As a new user's, with uv installed."""
    for name in (".ssh", ".local/bin"):
        (home / name).mkdir(parents=True)
    (home / ".local/bin/uv").symlink_to("/opt/bin/uv")
    (home / ".bashrc").write_text("PS1='$ '\n")


def make_network() -> None:
    """A bridge that is this process's own address, 10.77.0.1."""
    _run("ip link set lo up")
    _run("ip link add lab type bridge")
    _run(f"ip address add {NETWORK}1/24 dev lab")
    _run("ip link set lab up")


def switch_on(name: str, number: int, root: Path, environment: dict[str, str]) -> Machine:
    """Start a machine at 10.77.0.<number> with an SSH server that takes the key in its home."""
    address = f"{NETWORK}{number}"
    make_home(root / "home")
    (root / "tmp").mkdir(mode=0o1777)
    _run(f"ssh-keygen -q -t ed25519 -N '' -f {root}/host_key")
    os.mkfifo(root / "go")
    pairs = " ".join(f'"{key}={value}"' for key, value in environment.items())
    values = {"root": root, "home": HOME, "address": address, "name": name, "environment": pairs}
    (root / "sshd_config").write_text(_SSHD.format(**values))
    process = subprocess.Popen(
        ["unshare", "-pfnmu", "--mount-proc", "sh", "-c", textwrap.dedent(_NODE.format(**values))],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    machine = Machine(name=name, address=address, root=root, process=process)
    _wait_for((root / "ready").exists, "the machine's namespaces")
    _run(f"ip link add {name} type veth peer name eth0 netns {machine.pid}")
    _run(f"ip link set {name} master lab up")
    inside = f"nsenter -n -t {machine.pid} ip"
    _run(f"{inside} link set lo up")
    _run(f"{inside} address add {address}/24 dev eth0")
    _run(f"{inside} link set eth0 up")
    _run(f"{inside} route add default via {NETWORK}1")  # leads nowhere; Ray finds its address by it
    (root / "go").write_text("go\n")
    return machine


def _run(command: str) -> None:
    subprocess.run(["sh", "-c", command], check=True)


def _wait_for(condition: object, what: str, limit_s: float = 10.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} did not come within {limit_s:.0f} s")
        time.sleep(0.02)

"""Nothing of ours listens beyond loopback: read from the kernel's own tables."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

LOOPBACK = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
    "00000000000000000000000001000000",  # ::1
}
LISTEN = "0A"


def family(root: int) -> set[int]:
    """A process and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> dict[str, str]:
    """Socket inode -> hexadecimal local address, of the listening TCP sockets of `pids`."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    out = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                out[fields[9]] = fields[1].rpartition(":")[0]
    return out


@pytest.mark.ray
def test_a_ray_of_our_own_listens_on_loopback_alone(ray_session):
    found = listening(family(os.getpid()))
    assert len(found) >= 3, "Ray's servers were not found: the test would prove nothing"
    assert set(found.values()) <= LOOPBACK


def test_a_socket_on_every_address_would_be_seen():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert "00000000" in listening({os.getpid()}).values()

"""How many CPUs this process may use. Ray counts those of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus() -> int:
    """By the affinity mask (`taskset`, Slurm) and the CPU quota (containers); at least 1."""
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cpu_quota(Path("/"))
    return max(1, min(mask or 1, int(quota) if quota is not None else mask or 1))


def cpu_quota(root: Path) -> float | None:
    """CPUs that the control groups of this process leave it, by the smallest quota on the way up;
    None where there is none. `root`: of the file system, with `proc` and `sys`."""
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Of versions 1 and 2; both may be mounted."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mounts = root / "sys/fs/cgroup"
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = next((m for m in (mounts / controllers, mounts / "cpu") if m.is_dir()), mounts)
        # In a container the path may be the host's: then only the mount's own files are there.
        group = mount / path.strip("/")
        for folder in (group, *group.parents):
            if folder == mounts.parent:
                break
            quota, _, period = _quota(folder).partition(" ")
            if quota.isdecimal() and period.isdecimal() and int(period):
                yield int(quota) / int(period)


def _quota(folder: Path) -> str:
    """As version 2 writes it: `200000 100000`, or `max 100000` for none."""
    try:
        if (folder / "cpu.max").exists():
            return (folder / "cpu.max").read_text().strip()
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        return " ".join((folder / name).read_text().strip() for name in names)
    except OSError:
        return ""

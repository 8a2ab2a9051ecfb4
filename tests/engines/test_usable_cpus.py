"""How many CPUs there are for us: affinity and quotas, read from files as kernels write them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prunegrid.orchestrator.engines.ray import usable_cpus as module
from prunegrid.orchestrator.engines.ray.usable_cpus import cpu_quota, usable_cpus


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


V1 = "12:pids:/x\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n0::/system.slice"
V1_MOUNT = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "200000 100000"}, 2.0),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
            },
            3.0,
        ),
        ({"proc/self/cgroup": "0::/of/the/host", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc/self/cgroup": V1,
                f"{V1_MOUNT}/docker/abc/cpu.cfs_quota_us": "400000",
                f"{V1_MOUNT}/docker/abc/cpu.cfs_period_us": "100000",
                f"{V1_MOUNT}/cpu.cfs_quota_us": "-1",
                f"{V1_MOUNT}/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{V1_MOUNT}/cpu.cfs_quota_us": "250000",
                f"{V1_MOUNT}/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
            },
            1.0,
        ),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "rubbish"}, None),
    ],
)
def test_the_smallest_quota_on_the_way_up_counts(files, quota, tmp_path):
    assert cpu_quota(system(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "cpus"), [(None, 3), (2.9, 2), (0.5, 1), (64.0, 3)])
def test_quota_and_affinity_are_both_obeyed(quota, cpus, monkeypatch):
    monkeypatch.setattr(module, "cpu_quota", lambda root: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4, 6})
    assert usable_cpus() == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_a_process_that_is_bound_to_one_core_counts_one():
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}});"
        "from prunegrid.orchestrator.engines.ray.usable_cpus import usable_cpus;"
        "print(usable_cpus())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"

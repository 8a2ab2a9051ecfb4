"""`make test-cluster`: cluster/onprem.yaml and cluster/slurm.sh for real, on machines made of
namespaces.

A laptop and three machines with SSH: `ray up`, `ray submit` and `ray job submit` run the demo
grid into a store that the machines share; `prunegrid verify` checks it; both ways must give equal
cells, also where a machine is switched off in the middle. With --slurm: a login node and two
machines with Slurm's own daemons; a job meets its time limit and a preemption. The transcript goes
to --out.

Needs root (for namespaces), sshd, rsync, ssh and iproute2, for --slurm also slurmctld, slurmd and
munged; no network once uv has its packages.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.laptop import Laptop
from tests.cluster.machines import HOME, make_home, make_house, make_network, switch_on
from tests.cluster.slurm_daemons import PROGRAMS, start_slurm
from tests.cluster.slurm_story import CHECKOUT, show_logs, tell_slurm
from tests.cluster.story import tell

ROOT = Path(__file__).resolve().parent.parent.parent
INSIDE = "PRUNEGRID_TEST_CLUSTER"  #: set within the namespaces: the scratch folder
#: Three machines on one disk: packages are linked, not copied, and compiled once.
QUICK = {"UV_LINK_MODE": "symlink", "UV_COMPILE_BYTECODE": "0"}
NAMESPACES = ("unshare", "-pfnmu", "--mount-proc")
MACHINES = ("head", "worker1", "worker2")
NODES = ("node1", "node2")  #: of Slurm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the transcript there")
    parser.add_argument("--grid", default="grids/demo.yaml")
    parser.add_argument(
        "--select", default="seed=0,method=magnitude-global-unstructured,random-local-unstructured"
    )
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder")
    parser.add_argument("--fetched", action="store_true", help="uv has all packages already")
    parser.add_argument("--slurm", action="store_true", help="Slurm in place of `ray up`")
    options = parser.parse_args()
    if scratch := os.environ.get(INSIDE):
        sys.exit(_inside(Path(scratch), options))
    sys.exit(_outside(keep=options.keep, fetched=options.fetched, slurm=options.slurm))


def _outside(*, keep: bool, fetched: bool, slurm: bool) -> int:
    """Check what is needed, let uv fetch its packages, and go into namespaces of our own."""
    needed = ("sshd", "rsync", "ssh", "ip", "unshare", "nsenter") + (PROGRAMS if slurm else ())
    missing = [program for program in needed if not _which(program)]
    if missing or os.geteuid() != 0:
        why = f"{', '.join(missing)} missing" if missing else "not root"
        print(
            f"error: {why}: this test makes machines of namespaces, and needs root, sshd, rsync, "
            "ssh and iproute2, for Slurm munge and slurm-wlm (Debian: apt-get install "
            "openssh-server rsync iproute2 slurm-wlm)",
            file=sys.stderr,
        )
        return 2
    scratch = Path(tempfile.mkdtemp(prefix="prunegrid-cluster-", dir="/var/tmp"))  # /tmp is theirs
    try:
        if not fetched:
            _fetch(scratch / "fetch")
        return subprocess.run(
            [*NAMESPACES, sys.executable, "-m", "tests.cluster", *sys.argv[1:]],
            cwd=ROOT,
            env=os.environ | {INSIDE: str(scratch)},
            check=False,
        ).returncode
    finally:
        if keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def _fetch(home: Path) -> None:
    print("fetching packages into uv's cache: the machines have no network", flush=True)
    subprocess.run(
        ["bash", str(ROOT / "cluster/setup_node.sh")],
        env=os.environ
        | {
            "HOME": str(home),
            "UV_CACHE_DIR": str(_uv_cache()),
            "PRUNEGRID_PYTHON": sys.executable,
            "PATH": f"{_uv().parent}:{os.environ['PATH']}",
            **QUICK,
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    shutil.rmtree(home)


def _inside(scratch: Path, options: argparse.Namespace) -> int:
    """The first process of its namespaces: whatever it starts ends with it."""
    for name in ("bin", "pycache"):
        (scratch / name).mkdir()
    shutil.copy2(_uv(), scratch / "bin" / "uv")
    opt = {
        "python": Path(sys.base_prefix),
        "uv-cache": _uv_cache(),
        "bin": scratch / "bin",
        "pycache": scratch / "pycache",
    }
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    environment = {
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": "/opt/uv-cache",
        "PYTHONPYCACHEPREFIX": "/opt/pycache",
        **QUICK,
        "PRUNEGRID_PYTHON": f"/opt/python/bin/python{version}",
        "PATH": "/opt/bin:/usr/local/bin:/usr/bin:/bin",
    }
    make_home(scratch / "laptop")
    make_house(scratch, opt)
    make_network()
    checkout = CHECKOUT if options.slurm else HOME / "prunegrid"
    _copy_checkout(checkout)
    machines = [
        switch_on(name, number, scratch / name, environment)
        for number, name in enumerate(NODES if options.slurm else MACHINES, start=2)
    ]
    if options.slurm:
        environment |= start_slurm(scratch / "slurm", machines)
    laptop = Laptop(cwd=checkout, environment=environment, transcript=options.out)
    laptop.say(
        f"What `make test-cluster` showed, on {os.cpu_count()} cores. Left out: how ssh, rsync\n"
        "and Ray's log tell of copying files."
    )
    try:
        if options.slurm:
            tell_slurm(laptop, grid=options.grid, select=options.select)
        else:
            tell(laptop, machines, grid=options.grid, select=options.select)
    except AssertionError as error:
        show_logs(scratch / "slurm")
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        laptop.close()
        for machine in machines:
            machine.switch_off()
    return 0


def _copy_checkout(target: Path) -> None:
    """As a clone would give it, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    target.mkdir()
    subprocess.run(
        ["rsync", "-a", "--from0", "--files-from=-", "--ignore-missing-args", "./", f"{target}/"],
        cwd=ROOT,
        input=listed,
        check=True,
    )


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def _uv() -> Path:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found, "uv: not beside this Python, nor on the PATH"
    return Path(found).resolve()


def _uv_cache() -> Path:
    done = subprocess.run([_uv(), "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


if __name__ == "__main__":
    main()

"""A real NFS mount, without one in the kernel of this machine: a kernel that runs as a process.

Debian's `user-mode-linux` has NFS, its server too. It boots in seconds with this machine's files as
its root, to be read alone, exports a folder over loopback and mounts it twice for each version of
NFS, by names and addresses of their own: two machines, also to the server, which lends files to NFS
4's clients and calls them back from others alone. `on_nfs.py` then runs there. Needs root, and
`apt-get install user-mode-linux nfs-kernel-server nfs-common kmod`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
KERNEL = "linux.uml"
PROGRAMS = (KERNEL, "rpc.nfsd", "rpc.mountd", "exportfs", "mount.nfs", "modprobe")
VERSIONS = ("3", "4.2")
LIMIT_S = 1800
PATH = "/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_DONE = "tests ended with "
#: The first process of that kernel. No option of a mount is set that a lab would not have, but
#: `nosharecache`, which makes two mounts two clients, and `nolock`, since none runs rpc.statd.
_INIT = """#!/bin/sh
export PATH={path} HOME=/run/tmp TMPDIR=/run/tmp PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
for folder in /run /mnt /var/lib/nfs /dev/shm; do
  mkdir -p $folder; mount -t tmpfs none $folder
done
mkdir -p /run/lib /run/tmp /var/lib/nfs/v4recovery /var/lib/nfs/sm /mnt/export /mnt/out
ln -s /usr/lib/uml/modules /run/lib/modules
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
ip link set lo up
mount -t hostfs -o {out} none /mnt/out
exec >/mnt/out/said 2>&1
for module in nfsv3 nfsv4 nfsd; do modprobe -d /run $module; done
mount -t nfsd nfsd /proc/fs/nfsd && mount -t tmpfs none /mnt/export
rpcbind
exportfs -o rw,no_root_squash,insecure,fsid=0 127.0.0.0/8:/mnt/export
rpc.mountd 2>/dev/null
rpc.nfsd 8
for version in {versions}; do
  for machine in a b; do
    mkdir -p /mnt/$version/$machine
    case $version in 3) from=/mnt/export ;; *) from=/ ;; esac
    case $machine in a) server=127.0.0.1 ;; b) server=127.0.0.2 ;; esac
    hostname $machine
    timeout 60 mount -t nfs -o vers=$version,nosharecache,nolock $server:$from \\
      /mnt/$version/$machine || echo "no mount of version $version"
  done
done
grep ' nfs4\\? ' /proc/mounts
cd {root}
{python} -m pytest -n0 -v -rA -p no:cacheprovider --basetemp=/run/tmp/pytest {tests}
echo "{done}$?"
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


def missing() -> list[str]:
    return [program for program in PROGRAMS if not shutil.which(program, path=PATH)]


def run_on_nfs(tests: str, *, memory: str = "3G", show: bool = False) -> tuple[int, str]:
    """Run tests in that kernel. Returns pytest's exit code, and all that was said."""
    scratch = Path(tempfile.mkdtemp(prefix="prunegrid-nfs-", dir="/var/tmp"))
    try:
        init, said = scratch / "init", scratch / "said"
        init.write_text(
            _INIT.format(
                path=PATH,
                out=scratch,
                root=ROOT,
                versions=" ".join(VERSIONS),
                python=sys.executable,
                tests=tests,
                done=_DONE,
            )
        )
        init.chmod(0o755)
        said.touch()
        # Its memory is a file in TMPDIR.
        command = [KERNEL, f"mem={memory}", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]
        command += [f"init={init}", f"uml_dir={scratch}/", "con=null", "con0=null,fd:1"]
        environment = os.environ | {"PATH": PATH, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
        with (scratch / "kernel").open("wb") as out:
            process = subprocess.Popen(
                command,
                env=environment | {"TMPDIR": str(scratch), "HOME": str(scratch)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            _follow(process, said, show=show)
        text = said.read_text(errors="replace")
        code = text.rpartition(_DONE)[2].split()[:1]
        if not code:
            return 1, text + (scratch / "kernel").read_text(errors="replace")
        return int(code[0]), text.rpartition(_DONE)[0]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _follow(process: subprocess.Popen[bytes], said: Path, *, show: bool) -> None:
    with said.open() as lines:
        for _ in range(LIMIT_S):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            if show and (new := lines.read()):
                print(new, end="", flush=True)
            if process.poll() is not None:
                return
    os.killpg(process.pid, 9)
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write what was said there")
    parser.add_argument("--tests", default="tests/cluster/on_nfs.py")
    options = parser.parse_args()
    if os.geteuid() != 0 or missing():
        what = f"{', '.join(missing())} missing" if missing() else "not root"
        print(
            f"error: {what}: expected root, and Debian's packages user-mode-linux, "
            "nfs-kernel-server, nfs-common and kmod",
            file=sys.stderr,
        )
        sys.exit(2)
    code, text = run_on_nfs(options.tests, show=True)
    if options.out:
        options.out.write_text(text)
    sys.exit(code)


if __name__ == "__main__":
    main()

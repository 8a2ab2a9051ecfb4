"""Ray's own processes (the GCS, the raylet and their helpers), where this process starts them.

Ray starts them in the process group of the driver and has no switch for another. A signal to the
group (`timeout`, a closed terminal, Slurm) would end them before the driver has stopped in order;
so each gets a session of its own. The kernel still ends them with the driver.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Without these no task can run.
_NEEDED = ("gcs_server", "raylet")
#: Signals that ask the driver to stop, and that would end these processes.
_FOR_THE_DRIVER = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_daemons: list[subprocess.Popen[bytes]] = []  #: of the Ray that was started last


def _start(
    command: list[str], *, preexec_fn: Callable[[], None], **options: Any
) -> subprocess.Popen[bytes]:
    def prepare() -> None:
        for number in _FOR_THE_DRIVER:
            signal.signal(number, signal.SIG_IGN)
        preexec_fn()

    options["preexec_fn"] = prepare
    daemon = subprocess.Popen(command, start_new_session=True, **options)
    _daemons.append(daemon)
    return daemon


@contextlib.contextmanager
def own_sessions() -> Iterator[None]:
    """Within, Ray starts its processes in sessions of their own. Both names are Ray's private
    ones."""
    from ray._private import services

    before = services.ConsolePopen
    services.ConsolePopen = _start
    _daemons.clear()
    try:
        yield
    finally:
        services.ConsolePopen = before


@contextlib.contextmanager
def keep_sigterm() -> Iterator[None]:
    """Within, Ray does not replace the handler of SIGTERM, if there is one: of its two, that in C++
    would end the driver."""
    from ray._private import utils

    ours = signal.getsignal(signal.SIGTERM)
    if ours is signal.SIG_DFL:
        yield
        return
    before = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before
        signal.signal(signal.SIGTERM, ours)


def why_ended() -> str:
    """Which process of the Ray that was started last has ended, and how; "" while it runs."""
    for daemon in _daemons:
        name = Path(daemon.args[0]).name  # type: ignore[index, arg-type]
        if name in _NEEDED and (code := daemon.poll()) is not None:
            how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            killed = code == -signal.SIGKILL
            hint = " (perhaps by the kernel's out-of-memory killer: see dmesg)" if killed else ""
            return f"Ray's {name} has ended {how}{hint}"
    return ""


def kill() -> None:
    """End all of them now, with what they started: where one is gone, the others wait for it."""
    for daemon in _daemons:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
    for daemon in _daemons:
        daemon.wait()
    _daemons.clear()

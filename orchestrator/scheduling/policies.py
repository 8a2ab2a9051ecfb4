"""What follows from each class of failure: everything that decides by the class asks here. Pure.

`docs/failures.md` says the same for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from prunegrid.workers.contract import FailureKind

#: A run stops where so many tasks fail for one cause before any has succeeded.
ALIKE = 3
_TASK = re.compile(r"\b(train|prune|attack)-[0-9a-f]{6,}")
#: A task that runs out of memory gets a slot twice as large each time, up to this many slots.
MAX_SHARE = 8


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Of one class of failure."""

    attempts: int  #: the task fails after that many failed attempts of the class
    delay_s: float = 0.0  #: before a retry; doubles with each further failure of the class
    max_delay_s: float = 300.0
    free: int = 0  #: so many first retries have no delay
    larger: bool = False  #: a retry gets a slot twice as large
    #: It says nothing about the task or its node: whatever ran there would have ended.
    blameless: bool = False
    #: The worker may have written the task's result and then been lost: look before a retry.
    result_may_exist: bool = False
    #: The stored result that the task rests on may be torn: look, and have it made anew.
    input_suspect: bool = False
    #: Every worker to come would fail alike: the run stops in order, and says why.
    ends_run: bool = False
    #: The task would fail on every worker: a search doesn't try it again.
    final: bool = False
    advice: str = ""  #: for people, once the task has failed

    def delay_s_after(self, failures: int) -> float:
        """Seconds to wait after that many failures of the class."""
        doublings = failures - 1 - self.free
        if doublings < 0:
            return 0.0
        return min(self.delay_s * 2.0 ** min(doublings, 60), self.max_delay_s)


POLICIES: Mapping[FailureKind, Policy] = {
    FailureKind.LOST: Policy(
        attempts=100,
        free=3,
        delay_s=1,
        max_delay_s=60,
        blameless=True,
        result_may_exist=True,
        advice="100 nodes or workers were lost while they ran it: it may be the cause",
    ),
    FailureKind.CRASHED: Policy(
        attempts=3,
        free=1,
        delay_s=1,
        result_may_exist=True,
        advice="its process died each time: look for a crash in native code, or for the kernel's "
        "out-of-memory killer in dmesg",
    ),
    FailureKind.HOST_MEMORY: Policy(
        attempts=4,
        delay_s=5,
        larger=True,
        advice="raise cpus_per_task, so that fewer tasks share a machine",
    ),
    FailureKind.DEVICE_MEMORY: Policy(
        attempts=4,
        larger=True,
        advice="raise gpus_per_task, or lower the attack's batch_size",
    ),
    FailureKind.STORAGE: Policy(
        attempts=8,
        delay_s=2,
        advice="the store or a disk refuses: check its space and permissions",
    ),
    FailureKind.PATH: Policy(
        attempts=1,
        final=True,
        advice="move away what stands in the way of the file or folder, then run again",
    ),
    FailureKind.TIMEOUT: Policy(
        attempts=3,
        result_may_exist=True,
        advice="the recorded stacks show where it hung; raise silence_s or timeout_s "
        "if it is only slow",
    ),
    FailureKind.INPUT: Policy(
        attempts=3,
        delay_s=1,
        input_suspect=True,
        advice="a result that it depends on is missing or torn: run again to make it anew",
    ),
    FailureKind.CODE: Policy(
        attempts=2,
        blameless=True,
        ends_run=True,
        advice="the code changed since the driver started: run the same command again",
    ),
    FailureKind.DATA: Policy(
        attempts=1, final=True, advice="make the data set available, then run again"
    ),
    FailureKind.BUG: Policy(
        attempts=2, final=True, advice="see the traceback; once the cause is gone, run again"
    ),
}
FINAL_KINDS = frozenset(kind for kind, policy in POLICIES.items() if policy.final)


def cause(kind: str, message: str) -> str:
    """Equal for the failures of several tasks that have one cause."""
    return f"{kind}: {_TASK.sub('<task>', message)}"

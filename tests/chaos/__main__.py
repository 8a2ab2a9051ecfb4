"""`python -m tests.chaos [--rounds 25] [--seed N] [--out docs/chaos.md]`

Exit 1 where a round's cells differ from the undisturbed run's; that round's store is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.cluster import CPUS, GPUS, NODES, ROOT, FakeCluster
from tests.chaos.local import HARM as LOCAL_HARM
from tests.chaos.local import LocalRound
from tests.chaos.monkey import HARM
from tests.chaos.rounds import ChaosError, Report, Round, undisturbed

LOCAL_EVERY = 5  #: each so-manieth round is on a Ray of the driver's own


def play(rounds: int, seed: int, folder: Path, *, acts: int) -> tuple[list[Report], list[str]]:
    """The rounds' reports, and what went wrong in those that have none."""
    path = os.pathsep.join(
        filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    )
    os.environ["PYTHONPATH"] = path
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["CHAOS_WEATHER"] = str(folder / "weather.json")
    reports, wrong = [], []
    whole = undisturbed(folder / "undisturbed")
    with FakeCluster() as cluster:
        for number in range(1, rounds + 1):
            kind = LocalRound if number % LOCAL_EVERY == 0 else Round
            one = kind(number, seed, cluster, folder / f"round-{number:02d}", acts=acts)
            try:
                reports.append(one.run(whole))
            except ChaosError as error:
                wrong.append(f"round {number}: {error}")
                print(f"round {number:2d}: WRONG: {error}", flush=True)
                cluster.fill()
                continue
            last = reports[-1]
            harm = ", ".join(f"{n} {name}" for name, n in sorted(last.harm.items()))
            print(
                f"round {number:2d}: {last.cells} cells equal; {last.drivers} drivers, "
                f"{last.attempts} attempts, {last.seconds:.0f} s; {harm}",
                flush=True,
            )
    return reports, wrong


def table(reports: Sequence[Report], rounds: int, seed: int, seconds: float) -> str:
    """The page that the documentation keeps."""
    total = sum(report.harm.total() - report.harm["fine weather"] for report in reports)
    lines = [
        "# Chaos",
        "",
        f"`make chaos` runs a small grid {rounds} times on a Ray cluster of {NODES} nodes "
        f"({CPUS} CPU and {GPUS} fake GPU each) on one machine, with tasks "
        "that take a fraction of a second, and meanwhile harms it at random moments: "
        f"{', '.join(HARM)}. Each {LOCAL_EVERY}th round runs on a Ray that the driver "
        f"starts itself; there it is {', '.join(LOCAL_HARM)}. A driver that ended is started "
        "again. Then the harm stops, the driver finishes, and cells, models and attacked images "
        "are compared with those of an undisturbed run, value for value, and the store is "
        "verified. A torn file is one truncated behind our back, of any kind that a store holds; "
        "a torn journal line is lost, and `verify --set-aside` must be able to leave it out.",
        "",
        f"**{len(reports)} of {rounds} rounds equal**, {total} harms, seed {seed}, "
        f"{seconds / 60:.0f} min. The choices come from the seed; the moments are the machine's.",
        "",
        "| round | harm | drivers | exit codes | attempts | failed, by class | cells equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        harm = ", ".join(f"{n} {name}" for name, n in sorted(report.harm.items()))
        exits = ", ".join(f"{n}x {code}" for code, n in sorted(report.exits.items()))
        failed = ", ".join(f"{n} {kind}" for kind, n in sorted(report.failures.items())) or "none"
        cells = f"{report.cells} of {report.cells}"
        lines.append(
            f"| {report.number} | {harm} | {report.drivers} | {exits} | {report.attempts} | "
            f"{failed} | {cells} |"
        )
    lines += [
        "",
        "Exit codes: 0 done, 1 or 2 ended with an error that the next driver got over, 130 "
        "interrupted, -9 killed. Attempts: how often a task was begun by a worker; an undisturbed "
        "run makes one per task.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Harm a grid, and compare its cells.")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--acts", type=int, default=8, help="harms per round")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}, stores in {folder}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the cluster is not left behind
    began_s = time.monotonic()
    reports, wrong = play(chosen.rounds, seed, folder, acts=chosen.acts)
    print(f"{len(reports)} of {chosen.rounds} equal (seed {seed})")
    if chosen.out:
        text = table(reports, chosen.rounds, seed, time.monotonic() - began_s)
        chosen.out.write_text(text)
    if not wrong:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

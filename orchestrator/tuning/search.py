"""One search from beginning to end: trials, then the best and the grid's settings on images that
no trial has seen."""

from __future__ import annotations

import dataclasses
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from prunegrid.orchestrator.driver.launch import RunOptions, worker_settings
from prunegrid.orchestrator.engines.ray.node_resources import need_of
from prunegrid.orchestrator.engines.ray.start import keep_to_ourselves
from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.output import plain
from prunegrid.orchestrator.store.lease import Lease, find_driver
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.objective import Floats, compare
from prunegrid.orchestrator.tuning.search_plan import cut_base
from prunegrid.orchestrator.tuning.study import AttackStudy, Study
from prunegrid.orchestrator.tuning.task_runs import RunInterrupted, ScratchRuns
from prunegrid.orchestrator.tuning.trials import (
    Rival,
    SearchOutcome,
    TrialRole,
    TrialRow,
    TrialUpdate,
    best,
    distances_of,
    read_trials,
    score_attack,
    state_of,
    write_held_out,
    write_trial,
)
from prunegrid.orchestrator.tuning.wording import trial_line
from prunegrid.workers import layout
from prunegrid.workers.cache import cache_folder
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.keys import Scalar, digest
from prunegrid.workers.scratch import find_images, scratch_address


class NothingFoundError(PrunegridError):
    """No trial went all the way."""


@dataclass(frozen=True, kw_only=True)
class SearchContext:
    """Where a search runs, and into what store."""

    grid: Grid
    store: Store
    options: RunOptions
    slots: int | None  #: trials at once; None: see `share`
    console: Console

    @property
    def settings(self) -> WorkerSettings:
        """Of the trials' workers."""
        address = self.store.address
        settings = worker_settings(self.grid, address, self.options.data_dir)
        return dataclasses.replace(settings, results=scratch_address(address))


def set_ray_switches() -> None:
    """Call it before `ray_search` is imported: Ray and Tune read these at their own import."""
    keep_to_ourselves()
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its tables; `verbose` leaves them on


def ray_folder(store: Store) -> Path:
    """Ray's own state of this store's searches, on this machine: it is pickled, and nothing
    pickled is ever read from a store, which may come from anywhere."""
    return cache_folder() / "tune" / digest(store.address, length=12)


def share(slots: int, *, others: bool) -> int:
    """Trials at once where `slots` would fit: all, or half where others are at work."""
    return max(1, slots // 2 if others else slots)


def run_trials(study: Study, context: SearchContext) -> None:
    """Until every trial has ended. Raises PrunegridError, SupersededError among them, and
    RunInterrupted."""
    store, console, address = context.store, context.console, context.options.address
    known = read_trials(store, study)
    count = len(study.proposals)
    if len([trial for trial in known.values() if trial.ended]) == count:
        console.print(f"{study.name}: all {count} trials have their results")
        return
    set_ray_switches()
    from prunegrid.orchestrator.tuning import ray_search

    beside = address is not None or find_driver(store)[1]
    shown: set[int] = set()
    refused: list[PrunegridError] = []

    def on_update(update: TrialUpdate) -> None:
        try:
            lease.check()
        except PrunegridError as error:  # Tune lets no exception of ours through
            if not refused:
                os.kill(os.getpid(), signal.SIGINT)
            refused.append(error)
            return
        state = state_of(study, update.score, over_budget=update.over_budget, ended=update.ended)
        known[update.trial] = write_trial(store, study, update.trial, update.score, state)
        if update.ended and update.trial not in shown:
            shown.add(update.trial)
            line = trial_line(study, known, update.trial, update.error)
            console.print(line, soft_wrap=True)

    path = f"{layout.TUNING}/leases/{study.name}.json"
    with (
        Lease.take(store, path, say=plain(console)) as lease,
        ray_search.connected(address),
    ):
        room, gpus = ray_search.rooms(need_of(context.grid.resources, gpus=True))
        if not room:
            raise PrunegridError("no node has room for a trial: see the grid's `resources`")
        slots = context.slots or share(room, others=beside)
        folder = ray_folder(store)
        console.print(
            f"{study.name}: {count} trials, at most {slots} at once"
            + (" (a share: others are at work)" if beside and not context.slots else "")
            + f"; Ray's own files: {folder}",
            soft_wrap=True,
        )
        need = need_of(context.grid.resources, gpus=gpus)
        if ray_search.is_full(need):
            console.print("every place is taken: trials wait until others end")
        whole = ray_search.search(
            study,
            context.settings,
            context.options.runner,
            folder=folder,
            slots=slots,
            need=need,
            on_update=on_update,
        )
        if refused:
            raise refused[0]
        if not whole:
            raise RunInterrupted


def conclude(study: Study, context: SearchContext, *, whole: bool) -> SearchOutcome:
    """The best trial; of an attack also on the held-out images. Raises PrunegridError,
    NothingFoundError among them, and RunInterrupted."""
    trials = read_trials(context.store, study)
    winner = best(trials)
    if winner is None:
        raise NothingFoundError(
            f"{study.name}: none of {len(trials)} trials went all the way; see their states in "
            f"{context.store.address}/{layout.TUNING_ROWS}"
        )
    rivals: tuple[Rival, ...] = ()
    if isinstance(study, AttackStudy):
        rivals = _hold_out(study, winner, context, whole=whole)
    return SearchOutcome(study=study, trials=trials, best=winner, rivals=rivals)


def _hold_out(
    study: AttackStudy, winner: TrialRow, context: SearchContext, *, whole: bool
) -> tuple[Rival, ...]:
    """The tuned settings and the grid's on the held-out images. `whole`: also the grid's settings
    as they are, whatever they cost. Raises PrunegridError, RunInterrupted."""
    store = context.store
    cut = cut_base(study)
    entries: list[tuple[TrialRole, int, dict[str, Scalar]]] = [
        ("held-out tuned", winner.trial, dict(winner.options)),
        ("held-out cut", 0, cut),
    ]
    if whole and dict(study.base.options) != cut:
        entries.append(("held-out whole", 0, dict(study.base.options)))
    tasks = {role: study.held_out(options) for role, _, options in entries}
    todo = [task for part in tasks.values() for task in part]
    with ScratchRuns(
        context.grid, store, context.options, context.console, name=study.name
    ) as runs:
        runs.run(todo, "the images that no trial has seen")
    ours: Floats | None = None
    rivals = []
    for role, trial, options in entries:
        scored = score_attack(study, tasks[role], store.address)
        write_held_out(store, study, role, trial, options, scored)
        distances = distances_of(study, [find_images(t, store.address) for t in tasks[role]])
        ours = distances if ours is None else ours
        rivals.append(
            Rival(
                role=role,
                options=options,
                queries_mean=scored.queries_mean or 0.0,
                distances=distances,
                comparison=None
                if role == "held-out tuned"
                else compare(ours, distances, eps=study.eps, seed=study.seed),
            )
        )
    return tuple(rivals)

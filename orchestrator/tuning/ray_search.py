"""The search itself, by Ray Tune: trials on long-lived actors, hopeless ones stopped early.

What a trial computes is in the scratch store as soon as it is done; Ray's own
state only says which trials to stop, and is kept on this machine, never in a store: it is pickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray import tune

from prunegrid.orchestrator.engines.ray.node_resources import Need, capacity
from prunegrid.orchestrator.engines.ray.nodes import Nodes
from prunegrid.orchestrator.engines.ray.ray_engine import start_local
from prunegrid.orchestrator.engines.ray.start import join
from prunegrid.orchestrator.scheduling.policies import FINAL_KINDS
from prunegrid.orchestrator.tuning.study import Study
from prunegrid.orchestrator.tuning.trials import TrialScore, TrialUpdate
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.runner import Runner
from prunegrid.workers.scratch import TrialTaskBroken, ensure

#: Each rung keeps one trial of so many.
REDUCTION = 2
#: The rank of a value that is not finite.
_WORST = 1e30
#: How often a trial is retried whose worker died or whose task failed.
RETRIES = 2
#: Trials are as nice as can be (Ray's workers have 15): a grid run on the same machine, started
#: before or after, gets 70 % of a core that both want.
NICE = 19


class Trial(tune.Trainable):
    """Trials one after another on one actor, which keeps TensorFlow, data and compiled attacks."""

    def setup(self, config: dict[str, Any], **work: Any) -> None:
        """`work`: the study, the workers' settings and the runner, as `search` gives them."""
        self._study: Study = work["study"]
        self._settings: WorkerSettings = work["settings"]
        self._runner: Runner = work["runner"]
        os.nice(NICE)
        self._number = int(config["trial"])
        self._rung = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number, self._rung = int(new_config["trial"]), 0
        return True

    def step(self) -> dict[str, Any]:
        from prunegrid.orchestrator.tuning.trials import score

        study, settings = self._study, self._settings
        options = study.options(self._number)
        try:
            for task in study.tasks(options, self._rung):
                ensure(task, settings, self._runner, FINAL_KINDS)
        except TrialTaskBroken as error:  # the trial ends: it would fail again
            text = str(error).splitlines()[0]
            return self._result(None, study.edges[self._rung], ended=True, error=text)
        found = score(study, options, self._rung, settings.store)
        self._rung += 1
        over = bool(study.budget and (found.queries_mean or 0.0) > study.budget)
        ended = over or self._rung == len(study.edges)
        return self._result(found, found.size, over_budget=over, ended=ended)

    def _result(self, found: TrialScore | None, size: int, **more: Any) -> dict[str, Any]:
        update = TrialUpdate(trial=self._number, score=found, **more)
        rank = min(found.value, _WORST) if found else _WORST
        return {"size": size, "rank": rank, "update": update, "done": update.ended}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"rung": self._rung}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        self._rung = int((checkpoint or {}).get("rung", 0))


class _Relay(tune.Callback):
    """Passes updates to the listeners of this process. It has no state: a restored search brings
    its old relay along."""

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
    ) -> None:
        _publish(result["update"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        _publish(_last(trial.last_result))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        error = trial.get_error()
        lines = str(getattr(error, "cause", None) or error).strip().splitlines() or [""]
        text = next((line for line in lines if "TrialTaskFailed" in line), lines[-1])
        number = int(trial.config["trial"])
        _publish(TrialUpdate(trial=number, score=None, ended=True, error=text))


_listeners: list[Callable[[TrialUpdate], None]] = []


def _publish(update: TrialUpdate | None) -> None:
    if update is not None:
        for listener in _listeners:
            listener(update)


def _last(result: dict[str, Any] | None) -> TrialUpdate | None:
    """Of a trial that has ended, perhaps before its first rung's end."""
    update = (result or {}).get("update")
    return update and dataclasses.replace(update, ended=True)


# --------------------------------------------------------------------------- running it


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray, joined or our own; left as it was found. Raises EngineError."""
    import ray

    if ray.is_initialized():
        yield
        return
    if address is None:
        start_local(cpus=None, gpus=None)
    else:
        join(address)
    try:
        yield
    finally:
        ray.shutdown()


def rooms(need: Need) -> tuple[int, bool]:
    """Trials that fit at once into the cluster we are connected to, were it empty, and whether
    it has GPUs."""
    import ray

    nodes = Nodes(ray)
    nodes.look()
    alive = list(nodes.alive.values())
    gpus = any(node.gpus for node in alive)
    wanted = need if gpus else dataclasses.replace(need, gpus=0.0)
    return sum(capacity(node, wanted) for node in alive), gpus


def is_full(need: Need) -> bool:
    """Whether others hold every place of the cluster we are connected to: a trial then waits, of
    which Ray says nothing."""
    import ray

    free: dict[str, float] = ray.available_resources()
    return free.get("CPU", 0.0) < need.cpus or free.get("GPU", 0.0) < need.gpus


def search(
    study: Study,
    settings: WorkerSettings,
    runner: Runner,
    *,
    folder: Path,
    slots: int,
    need: Need,
    on_update: Callable[[TrialUpdate], None],
) -> bool:
    """Run the study's trials, or go on where `folder` says that it was left; at most `slots` at
    once. `on_update` gets one at the end of every rung. Returns False where it was interrupted."""
    trial = tune.with_parameters(Trial, study=study, settings=settings, runner=runner)
    trainable = tune.with_resources(trial, {"CPU": need.cpus, "GPU": need.gpus})
    path = str(folder / study.name)
    _listeners.append(on_update)
    try:
        with _quiet(), _stoppable():
            tuner = _restored(path, trainable) or _fresh(study, trainable, folder, slots)
            results = tuner.fit()
    finally:
        _listeners.remove(on_update)
    ended = 0
    for result in map(results.__getitem__, range(len(results))):
        if result.error is not None:
            ended += 1
        elif (update := _last(result.metrics)) and result.metrics.get("done"):
            on_update(update)
            ended += 1
    return ended == len(study.proposals)


def _restored(path: str, trainable: Any) -> tune.Tuner | None:
    if not tune.Tuner.can_restore(path):
        return None
    return tune.Tuner.restore(path, trainable=trainable, restart_errored=True)


def _fresh(study: Study, trainable: Any, folder: Path, slots: int) -> tune.Tuner:
    from ray.tune.schedulers import ASHAScheduler

    asha = ASHAScheduler(
        time_attr="size",
        max_t=study.edges[-1],
        grace_period=study.edges[0],
        reduction_factor=REDUCTION,
    )
    return tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(list(range(len(study.proposals))))},
        tune_config=tune.TuneConfig(
            metric="rank",
            mode="min",
            scheduler=asha,
            max_concurrent_trials=slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=study.name,
            storage_path=str(folder),
            callbacks=[_Relay()],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Tune's own messages, which name its classes and folders."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.air")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM stops in order, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

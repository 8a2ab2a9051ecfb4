"""One adapter for each tracker: a model with its curves and cells becomes a run there.

The libraries are extras (`prunegrid[mlflow]`, `[tensorboard]`, `[wandb]`), imported when a grid
names them. What they raise is left to the caller.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from prunegrid.orchestrator.grid.grid import Tracking

#: Of a metric's name, what every tracker takes.
_UNUSUAL = re.compile(r"[^\w.\-/ ]")
#: Its client's own limits keep a request to a server that is gone for many minutes; and it tells
#: its makers what it is used for.
_MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_ROOM_BYTES = 2**20  #: free on TensorBoard's disk
_MLFLOW_BATCH = 500  #: metrics in one request; the server takes 1 000


@dataclass(frozen=True, kw_only=True)
class TrackedModel:
    """What a tracker's run says of one model."""

    name: str  #: for people
    model_id: str
    grid: str  #: its name
    coordinates: Mapping[str, str | float | int]  #: architecture, method, rate, seed, ...
    scores: Mapping[str, float]  #: of the finished model: accuracy, loss, ...
    #: epoch -> metric -> value; none where an earlier call had them.
    curves: Sequence[Mapping[str, float]]
    cells: Mapping[str, float]  #: what is new: `robust_accuracy/<protocol>/<attack>/<eps>`


class Tracker(Protocol):
    kind: ClassVar[str]
    #: A run is opened for each call: call it for whole models.
    is_costly: ClassVar[bool]

    def track(self, model: TrackedModel, run: str | None) -> str:
        """Add what is new. `run`: what the first call for this model returned."""


def make_tracker(kind: str, target: str) -> Tracker:
    """`kind`: a key of the grid's `track`. Raises ImportError where its extra is missing."""
    return _TRACKERS[kind](target)


def named(track: Tracking) -> dict[str, str]:
    """The trackers that a grid names: kind -> target."""
    return {kind: target for kind, target in vars(track).items() if target is not None}


def metric_name(*parts: object) -> str:
    return "/".join(_UNUSUAL.sub("_", str(part)) for part in parts)


def _steps(model: TrackedModel) -> Iterator[tuple[str, float, int]]:
    """(metric, value, step): curves by epoch, from 1; scores and cells at the last one."""
    for epoch, values in enumerate(model.curves, start=1):
        yield from ((metric_name("curve", name), value, epoch) for name, value in values.items())
    for name, value in {**model.scores, **model.cells}.items():
        yield name, value, 0


class MlflowTracker:
    """A run in the experiment of the grid's name."""

    kind: ClassVar[str] = "mlflow"
    is_costly: ClassVar[bool] = False

    def __init__(self, uri: str) -> None:
        for name, value in _MLFLOW_DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)

    def track(self, model: TrackedModel, run: str | None) -> str:
        from mlflow.entities import Metric, Param

        if run is None:
            tags = {"prunegrid.model_id": model.model_id, "mlflow.runName": model.name}
            run = self._client.create_run(self._experiment(model.grid), tags=tags).info.run_id
            params = [Param(name, str(value)) for name, value in model.coordinates.items()]
            self._client.log_batch(run, params=params)
        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, step) for name, value, step in _steps(model)]
        for first in range(0, len(metrics), _MLFLOW_BATCH):
            self._client.log_batch(run, metrics=metrics[first : first + _MLFLOW_BATCH])
        self._client.set_terminated(run)
        return run

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)


class TensorboardTracker:
    """A folder of event files below the one that the grid names."""

    kind: ClassVar[str] = "tensorboard"
    is_costly: ClassVar[bool] = False

    def __init__(self, folder: str) -> None:
        from tensorboardX import SummaryWriter

        self._folder = Path(folder).expanduser()
        self._make = SummaryWriter

    def track(self, model: TrackedModel, run: str | None) -> str:
        name = run or f"{re.sub(r'[^A-Za-z0-9.]+', '-', model.name)}-{model.model_id[-8:]}"
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < _ROOM_BYTES:  # its thread would die, loudly
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        # of its own: the library's file names have the second alone, and the last one wins
        suffix = f".{uuid.uuid4().hex[:8]}"
        with self._make(str(self._folder / name), filename_suffix=suffix) as writer:
            if run is None:
                lines = [f"    {axis}: {value}" for axis, value in model.coordinates.items()]
                writer.add_text("coordinates", "\n".join(lines))
            for metric, value, step in _steps(model):
                writer.add_scalar(metric, value, step)
        return name


class WandbTracker:
    """A run in the project that the grid names; `WANDB_MODE=offline` keeps it on the disk."""

    kind: ClassVar[str] = "wandb"
    is_costly: ClassVar[bool] = True

    def __init__(self, project: str) -> None:
        import wandb

        self._wandb: Any = wandb
        self._project = project
        if os.environ.get("WANDB_MODE", "online") == "online" and wandb.api.api_key is None:
            raise PermissionError("no key: 'wandb login' keeps one; WANDB_MODE=offline needs none")

    def track(self, model: TrackedModel, run: str | None) -> str:
        name = run or model.model_id
        opened = self._wandb.init(
            project=self._project,
            id=name,
            name=model.name,
            group=model.grid,
            config=dict(model.coordinates),
            resume="allow",
            reinit="finish_previous",
            settings=self._wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        try:
            for epoch, values in enumerate(model.curves, start=1):
                opened.log({metric_name("curve", k): v for k, v in values.items()}, step=epoch)
            opened.summary.update({**model.scores, **model.cells})
        finally:
            opened.finish()
        return name


_TRACKERS: dict[str, Callable[[str], Tracker]] = {
    "mlflow": MlflowTracker,
    "tensorboard": TensorboardTracker,
    "wandb": WandbTracker,
}

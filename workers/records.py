"""The record of a finished train or prune task, `models/<key>/result.json`, and its provenance.

Standard library only. The driver turns records into the rows of `results/models/`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prunegrid.workers.contract import Task, task_from_dict, task_to_dict
from prunegrid.workers.decode import from_dict, parse_json
from prunegrid.workers.files import Files


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a result comes from; every row of the store has it."""

    task_key: str
    seed: int
    git_revision: str  #: of the worker's checkout
    versions: tuple[tuple[str, str], ...]  #: library -> version, sorted by name
    device: str  #: "cpu" or the GPU's name
    threads: int  #: TensorFlow's intra-op threads
    host: str
    started_at: str  #: ISO 8601, UTC
    duration_s: float
    attempt: int
    code_digest: str | None = None  #: of the worker's code; None in results of earlier versions
    arithmetic: str | None = None  #: what else the last bits depend on: see `device.arithmetic`
    #: Of the user's functions that took part, "module:function digest", comma-separated: see
    #: `user_code.sources_of`. None where none did, and in results of earlier versions.
    user_sources: str | None = None


@dataclass(frozen=True, kw_only=True)
class LayerCount:
    """The weights and multiply-adds of a conv or dense kernel. Residual projections are never
    pruned (the authors' counts leave them out), but their multiply-adds count."""

    name: str
    shape: tuple[int, ...]
    total: int
    left: int  #: weights that are not pruned
    flops_total: int  #: multiply-adds of one forward pass of one image
    flops_left: int  #: those that touch a weight that is not pruned
    prunable: bool = True
    kind: str = ""  #: "conv", "depthwise" or "dense"; "": of an earlier version, without depthwise


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One trained model's scores and counts."""

    accuracy: float  #: on the test split; NaN where the loss there is not finite
    loss: float
    validation_accuracy: float
    validation_loss: float
    train_loss: float
    epochs: int
    stopped_early: bool
    #: The loss became NaN or infinite: a result, not a crash. Weights kept from before may be good.
    diverged: bool
    nominal_rate: float
    layers: tuple[LayerCount, ...]
    weights_sha256: str  #: of weights.npz's arrays, in name order
    #: Milliseconds of one forward pass of `latency_batch` images, where the grid asks for it: of
    #: the model as it is (dense kernels with zeros), and without its dead channels.
    latency_ms: float | None = None
    shrunk_latency_ms: float | None = None
    latency_batch: int | None = None

    @property
    def unusable(self) -> bool:
        """Diverged, and the kept weights give no finite loss: there is no network to judge."""
        return self.diverged and not math.isfinite(self.loss)

    @property
    def summary(self) -> tuple[tuple[str, float], ...]:
        """For the journal."""
        if self.unusable:
            return (("diverged", 1.0),)
        later = (("diverged_later", 1.0),) if self.diverged else ()
        return (("accuracy", self.accuracy), *later)

    @property
    def params_total(self) -> int:
        return sum(layer.total for layer in self.layers if layer.prunable)

    @property
    def params_left(self) -> int:
        return sum(layer.left for layer in self.layers if layer.prunable)

    @property
    def effective_rate(self) -> float:
        """Prunable weights before / after; infinite where none is left."""
        return self.params_total / self.params_left if self.params_left else float("inf")

    @property
    def speedup(self) -> float:
        """Theoretical: FLOPs dense / FLOPs that touch a non-zero weight."""
        left = sum(layer.flops_left for layer in self.layers)
        return sum(layer.flops_total for layer in self.layers) / left if left else float("inf")


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The whole file: task, result, provenance."""

    task: Task
    result: ModelResult
    provenance: Provenance

    def to_json(self) -> str:
        return json.dumps(
            {
                "task": task_to_dict(self.task),
                "result": dataclasses.asdict(self.result),
                "provenance": dataclasses.asdict(self.provenance),
            },
            indent=1,
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelRecord:
        """Raises ValueError where the text is not a whole record."""
        raw: dict[str, Any] = parse_json(text)
        missing = {"task", "result", "provenance"} - set(raw)
        if missing:
            raise ValueError(f"model record: missing {sorted(missing)}")
        return cls(
            task=task_from_dict(raw["task"]),
            result=from_dict(ModelResult, raw["result"]),
            provenance=from_dict(Provenance, raw["provenance"]),
        )


def leave(
    files: Files, path: str, content: bytes, *, check: Callable[[bytes], object]
) -> bytes | None:
    """Write a task's result file, unless another worker has left one: rows were derived from that
    one, and other tasks started from it. Returns its content then, else None.

    `check` raises ValueError for a file that is not whole; such a file is replaced. Raises
    StorageError.
    """
    if files.write_once(path, content):
        return None
    there = files.read(path)
    try:
        check(there)
    except ValueError:
        files.write(path, content)
        return None
    return there

"""A search's rows in the store: written as news comes, read back as what is known of its trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.rows import Role, Score, State, row_bytes, row_path
from prunegrid.orchestrator.tuning.study import Study
from prunegrid.workers import layout
from prunegrid.workers.image_rows import read_table
from prunegrid.workers.keys import Scalar


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """What the store knows of a trial."""

    trial: int
    options: Mapping[str, Scalar]
    state: State
    size: int
    value: float
    tie: float
    queries_mean: float | None
    test_accuracy: float | None

    @property
    def ended(self) -> bool:
        return self.state != "running"

    @property
    def rank(self) -> tuple[float, float]:
        return (self.value, self.tie)


def state_of(study: Study, score: Score | None, *, over_budget: bool, ended: bool) -> State:
    if score is None:
        return "failed"
    if over_budget:
        return "over budget"
    if score.size >= study.edges[-1]:
        return "complete"
    return "stopped early" if ended else "running"


def write_trial(store: Store, study: Study, trial: int, score: Score | None, state: State) -> None:
    """Raises StoreError."""
    content = row_bytes(study, score, trial=trial, options=study.options(trial), state=state)
    store.write(row_path(study, "search", trial), content)


def write_held_out(
    store: Store, study: Study, role: Role, trial: int, options: Mapping[str, Scalar], score: Score
) -> None:
    """Raises StoreError."""
    content = row_bytes(study, score, trial=trial, options=options, state="complete", role=role)
    store.write(row_path(study, role, trial), content)


def read_trials(store: Store, study: Study) -> dict[int, TrialRow]:
    """By number; torn rows are left out, so that their trials count as not ended."""
    out = {}
    prefix = f"{layout.TUNING_ROWS}/{study.name}-t"
    for info in store.files.list(layout.TUNING_ROWS):
        if not info.path.startswith(prefix):
            continue
        try:
            row: dict[str, Any] = read_table(store.files.read(info.path)).to_pylist()[0]
            found = TrialRow(
                trial=int(row["trial"]),
                options=json.loads(row["settings"]),
                state=row["state"],
                size=int(row["size"]),
                value=_number(row["value"]),
                tie=_number(row["tie"]),
                queries_mean=row["queries_mean"],
                test_accuracy=row["test_accuracy"],
            )
        except (ValueError, KeyError, IndexError, TypeError, FileNotFoundError):
            continue
        out[found.trial] = found
    return out


def _number(value: float | None) -> float:
    return float("inf") if value is None else float(value)


def best(trials: Mapping[int, TrialRow]) -> TrialRow | None:
    """Of those that went all the way; the earlier one of equals."""
    through = [trial for trial in trials.values() if trial.state == "complete"]
    return min(through, key=lambda t: (*t.rank, t.trial), default=None)

"""A plan as arrays: counting 100 000 tasks a second must cost milliseconds. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from prunegrid.orchestrator.plan.dag import Plan, parents_of

Ints = NDArray[np.int32]
States = NDArray[np.int8]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: From best to worst: a cell is as its worst shard.
STATES = ("done", "waiting", "running", "blocked", "failed")
DONE, WAITING, RUNNING, BLOCKED, FAILED = range(5)
#: In the order in which people are told of them.
SHOWN = ("done", "running", "waiting", "blocked", "failed")

_MODEL_AXES = ("architecture", "variant", "method", "rate", "seed")
_CELL_AXES = ("protocol", "attack", "eps")


@dataclass(frozen=True, kw_only=True, eq=False)
class Axes:
    """Coordinates of some models or cells, an index into `names` each. [n] int32"""

    codes: Mapping[str, Ints]
    names: Mapping[str, tuple[str | float | int, ...]]

    def mask(self, axis: str, values: Iterable[object]) -> Bools:
        """Which of them have one of `values` on an axis."""
        wanted = set(values)
        codes = [code for code, name in enumerate(self.names[axis]) if name in wanted]
        return np.isin(self.codes[axis], codes)


class PlanIndex:
    """Positions instead of keys; made once per plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.keys: tuple[str, ...] = tuple(plan.tasks)
        self.number: dict[str, int] = {key: i for i, key in enumerate(self.keys)}
        #: Tasks of each kind, in the order of TaskKind.
        self.kinds: dict[str, int] = {kind.value: plan.count(kind) for kind in plan.kinds}
        #: By depth, from 1 on: tasks of that depth and a parent of each, two positions. A task with
        #: several parents comes once for each. Parents outside of the plan are left out.
        self.levels: tuple[tuple[Ints, Ints], ...] = self._levels()
        #: [models]
        self.model_task: Ints = self._positions(m.task_key for m in plan.models)
        shards = [cell.task_keys for cell in plan.cells]
        #: Tasks of cell i: shard_task[shard_start[i]:shard_start[i + 1]]. [cells + 1], [shards]
        self.shard_start: Ints = np.cumsum([0, *map(len, shards)], dtype=np.int32)
        self.shard_task: Ints = self._positions(key for keys in shards for key in keys)
        leaves = np.zeros(len(self.keys), dtype=bool)
        leaves[self.model_task] = True
        leaves[self.shard_task] = True
        leaves[self._positions(transfer.task_key for transfer in plan.transfers)] = True
        self.leaves: Bools = leaves

    def _positions(self, keys: Iterable[str]) -> Ints:
        return np.array([self.number[key] for key in keys], dtype=np.int32)

    def _levels(self) -> tuple[tuple[Ints, Ints], ...]:
        """A task's parents are above it."""
        depth = [0] * len(self.keys)
        edges: list[tuple[list[int], list[int]]] = []
        for i, task in enumerate(self.plan.tasks.values()):  # parents come first
            above = [p for key in parents_of(task) if (p := self.number.get(key, -1)) >= 0]
            if not above:
                continue
            depth[i] = 1 + max(depth[p] for p in above)
            while len(edges) < depth[i]:
                edges.append(([], []))
            children, parents = edges[depth[i] - 1]
            children += [i] * len(above)
            parents += above
        return tuple(
            (np.array(children, dtype=np.int32), np.array(parents, dtype=np.int32))
            for children, parents in edges
        )

    @cached_property
    def model_axes(self) -> Axes:
        models = self.plan.models
        return _axes({axis: [getattr(m.place, axis) for m in models] for axis in _MODEL_AXES})

    @cached_property
    def cell_axes(self) -> Axes:
        cells = self.plan.cells
        columns = {axis: [getattr(c.place.model, axis) for c in cells] for axis in _MODEL_AXES}
        return _axes(
            columns | {axis: [getattr(c.place, axis) for c in cells] for axis in _CELL_AXES}
        )

    @cached_property
    def cell_ids(self) -> tuple[str, ...]:
        return tuple(cell.name for cell in self.plan.cells)

    @cached_property
    def cell_number(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.cell_ids)}

    @cached_property
    def model_number(self) -> dict[str, int]:
        return {model.name: i for i, model in enumerate(self.plan.models)}

    # ------------------------------------------------------------------ states

    def present(self, keys: Iterable[str]) -> Bools:
        """[tasks]: which of them are in `keys`."""
        out = np.zeros(len(self.keys), dtype=bool)
        out[[i for key in keys if (i := self.number.get(key)) is not None]] = True
        return out

    def done(self, finished: Collection[str]) -> Bools:
        """[tasks]: those that need not run again, as `Plan.done` says."""
        out = self.present(finished)
        out[[self.number[key] for key in self.plan.lacking(finished)]] = False
        return out

    def rows_present(self, names: Collection[str]) -> Bools:
        """[cells]: which of them have a row of their name."""
        return np.array([name in names for name in self.cell_ids], dtype=bool)

    def needed(self, done: Bools) -> Bools:
        """[tasks]: what must run yet, as `Plan.unfinished` says."""
        out = self.leaves & ~done
        for children, parents in reversed(self.levels):
            above = parents[out[children]]
            out[above] |= ~done[above]
        return out

    def task_states(self, done: Bools, running: Bools, failed: Bools) -> States:
        """[tasks] of DONE to FAILED. A task is blocked where an ancestor that it needs failed."""
        state = np.full(len(self.keys), WAITING, dtype=np.int8)
        state[running] = RUNNING
        state[failed] = FAILED
        state[done] = DONE
        for children, parents in self.levels:
            stuck = state[parents] >= BLOCKED
            mine = children[stuck & (state[children] != DONE) & (state[children] != FAILED)]
            state[mine] = BLOCKED
        return state

    def cell_states(self, task_states: States, rows: Bools) -> States:
        """[cells]; `rows` [cells]: which have their row. Without it a cell is not done."""
        if not len(rows):
            return np.zeros(0, dtype=np.int8)
        worst = np.maximum.reduceat(task_states[self.shard_task], self.shard_start[:-1])
        worst[(worst == DONE) & ~rows] = WAITING
        worst[rows] = DONE
        return worst


def count_states(states: States) -> dict[str, int]:
    """How many tasks or cells are in each state, in the order of SHOWN."""
    counts = np.bincount(states, minlength=len(STATES)).tolist()
    return {name: counts[STATES.index(name)] for name in SHOWN}


def _axes(columns: Mapping[str, Sequence[str | float | int]]) -> Axes:
    """Names in the plan's order; numbers ascending."""
    codes, names = {}, {}
    for axis, column in columns.items():
        found = list(dict.fromkeys(column))
        if axis in ("rate", "seed", "eps"):
            found.sort()
        code = {name: i for i, name in enumerate(found)}
        codes[axis] = np.array([code[name] for name in column], dtype=np.int32)
        names[axis] = tuple(found)
    return Axes(codes=codes, names=names)

"""A grid expanded: its models, its cells, and the tasks that they rest on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.grid import (
    ArchitecturePlan,
    CellCoordinates,
    Grid,
    ModelCoordinates,
    PlannedAttack,
    PlannedMethod,
    Selection,
    TransferCoordinates,
    Variant,
    cell_id,
    model_id,
    transfer_id,
)
from prunegrid.orchestrator.grid.selection import GridSelection
from prunegrid.workers import layout
from prunegrid.workers.contract import (
    AttackTask,
    PruneTask,
    PruningSettings,
    Task,
    TaskKind,
    TrainTask,
    TransferTask,
)


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    place: ModelCoordinates
    task_key: str

    @cached_property
    def name(self) -> str:
        """Of its row."""
        return model_id(self.place, self.task_key)


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    place: CellCoordinates
    attack: PlannedAttack
    task_keys: tuple[str, ...]  #: one per shard

    @cached_property
    def name(self) -> str:
        """Of its row."""
        return cell_id(self.place, self.task_keys)


@dataclass(frozen=True, kw_only=True)
class PlannedTransfer:
    place: TransferCoordinates
    attack: PlannedAttack
    task_key: str

    @cached_property
    def name(self) -> str:
        """Of its row."""
        return transfer_id(self.place, self.task_key)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a selection of a grid needs. Tasks are in an order in which parents come first."""

    grid: Grid
    models: tuple[PlannedModel, ...]
    cells: tuple[PlannedCell, ...]
    tasks: Mapping[str, Task]
    wanted: tuple[str, ...] = ()  #: tasks that are wanted without a model or cell
    transfers: tuple[PlannedTransfer, ...] = ()

    def parent(self, key: str) -> str | None:
        return parent_of(self.tasks[key])

    def leaves(self) -> Iterator[str]:
        """Every task that is wanted, or a model or cell rests on directly, some more than once."""
        yield from self.wanted
        yield from (model.task_key for model in self.models)
        for cell in self.cells:
            yield from cell.task_keys
        yield from (transfer.task_key for transfer in self.transfers)

    def unfinished(self, finished: Collection[str]) -> dict[str, Task]:
        """The tasks that must run, parents first: those that are not done and are wanted, or that
        a model, cell or transfer needs. The ancestors of a task that is done are needed no more.
        Parents outside of the plan have their results. `finished`: as `Store.finished` has it."""
        lacking = self.lacking(finished)
        todo: set[str] = set()
        stack = list(self.leaves())
        while stack:
            key = stack.pop()
            if key in self.tasks and key not in todo and (key not in finished or key in lacking):
                todo.add(key)
                stack.extend(parents_of(self.tasks[key]))
        return {key: task for key, task in self.tasks.items() if key in todo}

    def done(self, finished: Collection[str]) -> set[str]:
        """The tasks of the plan that need not run again."""
        return {key for key in self.tasks if key in finished} - self.lacking(finished)

    def lacking(self, finished: Collection[str]) -> set[str]:
        """Attack tasks that have their rows, but not the adversarials that they are to keep: all
        of these where the grid keeps them for their own sake, else those that a transfer without a
        result needs. They run again."""
        lacking = {
            key
            for key in self._keeping
            if key in finished and layout.adversarials_name(key) not in finished
        }
        if not lacking or self.grid.keep_adversarials:
            return lacking
        return lacking & {
            source
            for key in {transfer.task_key for transfer in self.transfers}
            if key not in finished
            for source in parents_of(self.tasks[key])
        }

    @cached_property
    def _keeping(self) -> tuple[str, ...]:
        return tuple(
            k for k, task in self.tasks.items() if isinstance(task, AttackTask) and task.keep
        )

    @cached_property
    def kinds(self) -> tuple[TaskKind, ...]:
        """Those to tell of: transfers where there are some."""
        return tuple(k for k in TaskKind if k is not TaskKind.TRANSFER or self.transfers)

    def count(self, kind: TaskKind) -> int:
        return sum(task.kind is kind for task in self.tasks.values())


def parent_of(task: Task) -> str | None:
    """The task of the model that it starts from, attacks, or shows adversarials to."""
    return None if isinstance(task, TrainTask) else task.parent_key


def parents_of(task: Task) -> tuple[str, ...]:
    """All tasks whose results it needs."""
    if isinstance(task, TrainTask):
        return ()
    if isinstance(task, TransferTask):
        return (task.parent_key, *task.attack_keys)
    return (task.parent_key,)


def expand(grid: Grid, select: Selection | None = None) -> Plan:
    """Raises UsageError where the selection names what the grid has not."""
    wanted = GridSelection(grid, select or {})
    builder = _Builder(grid, wanted)
    for architecture in grid.architectures:
        for variant in architecture.variants:
            for method in grid.pruning_methods:
                for seed in grid.seeds:
                    builder.add_chain(architecture, variant, method, seed)
    if not builder.models:
        raise UsageError("the selection leaves no model of the grid")
    return builder.plan()


class _Builder:
    def __init__(self, grid: Grid, wanted: GridSelection) -> None:
        self._grid = grid
        self._wanted = wanted
        self._all: dict[str, Task] = {}
        self.models: list[PlannedModel] = []
        self._cells: list[PlannedCell] = []
        self._transfers: list[PlannedTransfer] = []
        self._needed: dict[str, Task] = {}
        self._shards: dict[tuple[str, PlannedAttack], tuple[str, ...]] = {}

    def add_chain(
        self, architecture: ArchitecturePlan, variant: Variant, planned: PlannedMethod, seed: int
    ) -> None:
        method = planned.entry.name
        lets = self._wanted.lets
        if not lets(architecture=architecture.name, variant=variant.name, method=method, seed=seed):
            return
        salt = method if self._grid.dense_model == "per_method" else ""
        dense = TrainTask(
            architecture=architecture.architecture,
            data=architecture.data,
            training=variant.training,
            seed=seed,
            salt=salt,
            configuration=architecture.configuration,
            prune_except=architecture.prune_except,
            network=architecture.network,
        )
        previous = dense_key = self._add(dense)
        previous_rate = 1.0
        rated: list[tuple[ModelCoordinates, str]] = []  #: of the selection
        for rate in planned.rates:
            key = previous
            if rate > 1:
                one_shot = variant.pruning.schedule == "one-shot"
                task = PruneTask(
                    architecture=architecture.architecture,
                    data=architecture.data,
                    training=variant.fine_tuning,
                    pruning=PruningSettings(
                        method=method,
                        rate=rate,
                        parent_rate=1.0 if one_shot else previous_rate,
                        weights=variant.pruning.weights,
                        own=None if planned.in_catalog else planned.entry,
                    ),
                    seed=seed,
                    salt=salt,
                    parent_key=dense_key if one_shot else previous,
                    prune_except=architecture.prune_except,
                    network=architecture.network,
                )
                previous, previous_rate = self._add(task), rate
                key = previous
            if lets(rate=rate):
                place = ModelCoordinates(
                    architecture=architecture.name,
                    dataset=architecture.data.dataset,
                    variant=variant.name,
                    method=method,
                    rate=rate,
                    seed=seed,
                )
                self._add_model(place, key, architecture)
                rated.append((place, key))
        for place, key in rated:
            if place.rate > 1:
                dense_place = replace(place, rate=1.0)
                self._add_transfers((dense_place, dense_key), (place, key), architecture)

    def _add(self, task: Task) -> str:
        key = task.key
        self._all.setdefault(key, task)
        return key

    def _need(self, key: str) -> None:
        """Mark a task and its ancestors as needed, ancestors first."""
        stack = [key]
        while stack:
            current = stack.pop()
            if current in self._needed:
                continue
            above = [name for name in parents_of(self._all[current]) if name not in self._needed]
            if above:
                stack += [current, *above]
            else:
                self._needed[current] = self._all[current]

    def _add_model(self, place: ModelCoordinates, key: str, architecture: ArchitecturePlan) -> None:
        lets = self._wanted.lets
        attacks = [
            (attack, eps)
            for attack in architecture.attacks
            if lets(protocol=attack.protocol, attack=attack.label)
            and (eps := [eps for eps in attack.eps if lets(eps=eps)])
        ]
        if not attacks:
            return
        self._need(key)
        self.models.append(PlannedModel(place=place, task_key=key))
        for attack, wanted_eps in attacks:
            shards = self._shards_of(key, attack, architecture, place.seed)
            for shard in shards:
                self._need(shard)
            self._cells.extend(
                PlannedCell(
                    place=CellCoordinates(
                        model=place, protocol=attack.protocol, attack=attack.label, eps=eps
                    ),
                    attack=attack,
                    task_keys=shards,
                )
                for eps in wanted_eps
            )

    def _add_transfers(
        self,
        dense: tuple[ModelCoordinates, str],
        pruned: tuple[ModelCoordinates, str],
        architecture: ArchitecturePlan,
    ) -> None:
        """From a dense model to one that is pruned from it, and back; places and task keys. What is
        selected is the pruned one: the attacks on the other run as far as these need them."""
        lets, transfer = self._wanted.lets, self._grid.transfer
        for attack in architecture.attacks if transfer is not None else ():
            assert transfer is not None
            if not transfer.takes(attack):
                continue
            if not lets(protocol=attack.protocol, attack=attack.label):
                continue
            wanted_eps = [eps for eps in attack.eps if lets(eps=eps)]
            for (source, source_key), (target, target_key) in (
                ((dense, pruned), (pruned, dense)) if wanted_eps else ()
            ):
                key = self._add(
                    TransferTask(
                        architecture=architecture.architecture,
                        data=architecture.data,
                        attack=attack.settings,
                        split=attack.split,
                        images=architecture.attack_images,
                        seed=source.seed,
                        source_key=source_key,
                        attack_keys=self._shards_of(source_key, attack, architecture, source.seed),
                        parent_key=target_key,
                        network=architecture.network,
                    )
                )
                self._need(key)
                self._transfers.extend(
                    PlannedTransfer(
                        place=TransferCoordinates(
                            source=source,
                            target=target,
                            protocol=attack.protocol,
                            attack=attack.label,
                            eps=eps,
                        ),
                        attack=attack,
                        task_key=key,
                    )
                    for eps in wanted_eps
                )

    def _shards_of(
        self, key: str, attack: PlannedAttack, architecture: ArchitecturePlan, seed: int
    ) -> tuple[str, ...]:
        if (key, attack) not in self._shards:
            size = attack.images_per_shard
            keep = self._grid.keeps(architecture, attack)
            settings = attack.settings
            if isinstance(self._all[key], TrainTask):  # nothing is pruned: the same work
                settings = replace(settings, network="stored")
            self._shards[key, attack] = tuple(
                self._add(
                    AttackTask(
                        architecture=architecture.architecture,
                        data=architecture.data,
                        attack=settings,
                        split=attack.split,
                        start=start,
                        stop=min(start + size, architecture.attack_images),
                        seed=seed,
                        parent_key=key,
                        network=architecture.network,
                        keep=keep,
                    )
                )
                for start in range(0, architecture.attack_images, size)
            )
        return self._shards[key, attack]

    def plan(self) -> Plan:
        return Plan(
            grid=self._grid,
            models=tuple(self.models),
            cells=tuple(self._cells),
            tasks=self._needed,
            transfers=tuple(self._transfers),
        )

"""A grid: what to train, prune and attack, after every default and override is settled.

Pure. `file.py` makes one from YAML; `plan/dag.py` expands it into tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prunegrid.workers.contract import (
    AttackSettings,
    DataSettings,
    OwnNetwork,
    TrainingSettings,
)
from prunegrid.workers.keys import digest
from prunegrid.workers.method_entry import MethodEntry
from prunegrid.workers.network_facts import NetworkFacts
from prunegrid.workers.user_code import UserCode

SplitName = Literal["test", "validation"]
DenseModel = Literal["per_method", "shared"]
PruningSchedule = Literal["iterative", "one-shot"]
PrunedWeights = Literal["retain", "rewind", "reinitialize"]


@dataclass(frozen=True, kw_only=True)
class PruningPlan:
    schedule: PruningSchedule  #: one-shot prunes each rate from the dense model
    weights: PrunedWeights  #: what fine-tuning starts from


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A named way to train and prune, for one architecture."""

    name: str
    training: TrainingSettings  #: of the dense network
    fine_tuning: TrainingSettings  #: after every prune step
    pruning: PruningPlan


@dataclass(frozen=True, kw_only=True)
class PlannedAttack:
    """An attack as one protocol runs it on one architecture."""

    label: str  #: the grid's name for it
    protocol: str
    settings: AttackSettings  #: its eps are empty for a minimum-norm attack
    eps: tuple[float, ...]  #: the cells' eps, ascending
    split: SplitName
    images_per_shard: int  #: of one task

    @property
    def code(self) -> UserCode | None:
        """Of an attack that is a function of the grid's own."""
        own = self.settings.own
        return None if own is None else UserCode(target=self.settings.attack, version=own.version)


@dataclass(frozen=True, kw_only=True)
class ArchitecturePlan:
    name: str  #: the grid's label
    architecture: str  #: of the catalog, or OWN
    configuration: str  #: see `prunegrid.workers.identity`
    prune_except: tuple[str, ...] = ()  #: layers that are not pruned
    network: OwnNetwork | None = None  #: of the grid itself
    facts: NetworkFacts | None = None  #: what Keras said of it, where it was asked
    data: DataSettings
    attack_images: int
    variants: tuple[Variant, ...]
    attacks: tuple[PlannedAttack, ...]


@dataclass(frozen=True, kw_only=True)
class PlannedMethod:
    entry: MethodEntry
    rates: tuple[float, ...]  #: ascending; 1 is the dense model
    in_catalog: bool  #: its name says all of it: no description is in the task keys


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a task takes of a machine; never part of a task's identity."""

    cpus_per_task: int
    gpus_per_task: float
    threads: int
    gpu_memory_mib: int | None
    silence_s: float = 900.0  #: a task without a heartbeat for so long hangs: it is ended
    timeout_s: float | None = None  #: for one attempt; None: as long as it takes
    latency_batch: int | None = None  #: images of the forward pass that models are timed with


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a machine costs, and so what a task's hour does; never part of a task's identity."""

    per_hour: float  #: of one node, or of one slot where the grid says so
    currency: str  #: as the grid calls it, such as USD; "" where it does not
    slots_per_node: int  #: tasks that one node runs at once

    @property
    def per_slot_hour(self) -> float:
        return self.per_hour / self.slots_per_node


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Which adversarials are shown to other models: those that an attack made on a dense model to
    the models pruned from it, and those made on these to the dense one. Empty: all."""

    attacks: tuple[str, ...] = ()  #: labels
    protocols: tuple[str, ...] = ()

    def takes(self, attack: PlannedAttack) -> bool:
        by_label = not self.attacks or attack.label in self.attacks
        return by_label and (not self.protocols or attack.protocol in self.protocols)


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where results go beside the store; never part of a task's identity."""

    mlflow: str | None  #: a tracking URI
    tensorboard: str | None  #: a folder
    wandb: str | None  #: a project


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid, checked: what is trained, pruned and attacked, with every default. `read_grid` and
    `make_grid` make one.

    `seeds`: whole numbers. `methods`: names of pruning methods. `rates`: compression rates,
    prunable weights before over after, of at least 1, ascending.
    """

    name: str
    source: str  #: the file it was read from
    text: str  #: the file's text, as the store keeps it
    architectures: tuple[ArchitecturePlan, ...]
    pruning_methods: tuple[PlannedMethod, ...]
    seeds: tuple[int, ...]
    dense_model: DenseModel
    resources: Resources
    price: Price | None = None
    track: Tracking | None = None
    transfer: Transfer | None = None  #: None: no adversarials are shown to other models
    keep_adversarials: bool = False  #: of every attack; else of those that `transfer` takes
    notes: tuple[str, ...] = ()  #: what to say of how a store means it

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(method.entry.name for method in self.pruning_methods)

    @property
    def rates(self) -> tuple[float, ...]:
        """Of all methods, ascending."""
        return tuple(sorted({rate for method in self.pruning_methods for rate in method.rates}))

    def keeps(self, architecture: ArchitecturePlan, attack: PlannedAttack) -> bool:
        """Whether all adversarials of an attack are kept."""
        takes = self.transfer is not None and any(
            # under another label it is the same work
            self.transfer.takes(other)
            for other in architecture.attacks
            if (other.settings, other.split) == (attack.settings, attack.split)
        )
        return self.keep_adversarials or (takes and self.rates[-1] > 1)

    @property
    def remarks(self) -> list[str]:
        """`notes`, and what Keras said of the networks that it brings."""
        known = ((each.name, each.facts) for each in self.architectures)
        of_networks = [f"{name}: {note}" for name, facts in known if facts for note in facts.notes]
        return [*self.notes, *of_networks]

    def user_code(self) -> tuple[UserCode, ...]:
        """All functions that the grid brings, each once."""
        found: list[UserCode | None] = []
        for each in self.architectures:
            found += [
                None if each.network is None else each.network.code,
                None if each.data.own is None else each.data.own.reader,
            ]
            found += [attack.code for attack in each.attacks]
        found += [method.entry.score for method in self.pruning_methods]
        return tuple(dict.fromkeys(code for code in found if code is not None and not code.is_ours))


#: The axes that `--select` knows.
AXES = (
    "architecture",
    "variant",
    "method",
    "rate",
    "seed",
    "protocol",
    "attack",
    "eps",
)

Selection = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ModelCoordinates:
    """Which model of a grid."""

    architecture: str
    dataset: str
    variant: str  #: a named bundle of training and pruning settings; "standard" is the plain one
    method: str
    rate: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class CellCoordinates:
    """Which cell: a model, attacked."""

    model: ModelCoordinates
    protocol: str
    attack: str  #: the grid's label for the attack
    eps: float  #: in the norm's units; L-infinity and L2 with pixels in [0, 1]


@dataclass(frozen=True, kw_only=True)
class TransferCoordinates:
    """Which transfer: the cell that its adversarials are of, and who is shown them. The two models
    are of one chain, and one of them is its dense model."""

    source: ModelCoordinates
    target: ModelCoordinates
    protocol: str
    attack: str  #: the grid's label for the attack
    eps: float


def model_id(place: ModelCoordinates, task_key: str) -> str:
    """`model-<place>-<work>`: one row per place; other work at the same place supersedes it."""
    return f"model-{digest(place, length=12)}-{digest(task_key, length=8)}"


def cell_id(place: CellCoordinates, task_keys: Sequence[str]) -> str:
    """`cell-<place>-<work>`, the work being the attack tasks (shards) that it rests on."""
    return f"cell-{digest(place, length=12)}-{digest(sorted(task_keys), length=8)}"


def transfer_id(place: TransferCoordinates, task_key: str) -> str:
    """`transfer-<place>-<work>`."""
    return f"transfer-{digest(place, length=12)}-{digest(task_key, length=8)}"


def place_of(row_id: str) -> str:
    """The part of a row's name that two rows of one place share."""
    return row_id.rpartition("-")[0]

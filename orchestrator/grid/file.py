"""`grid.yaml` to a `Grid`: defaults, overrides, and every refusal, with its line.

Overrides go from the general to the particular: the grid's `training`, then the architecture's,
then the variant's; an attack's settings, then the protocol's for that attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from prunegrid.orchestrator.errors import GridError, expected
from prunegrid.orchestrator.grid.attack_fields import SIZE, Protocol, read_attacks, read_protocols
from prunegrid.orchestrator.grid.fields import (
    BOOLEAN,
    TEXT,
    Field,
    Kind,
    Table,
    choice,
    mapping,
    maybe,
    names_of,
    number,
    optional,
    section,
    unique,
    whole,
)
from prunegrid.orchestrator.grid.grid import (
    ArchitecturePlan,
    DenseModel,
    Grid,
    PlannedAttack,
    PrunedWeights,
    PruningPlan,
    PruningSchedule,
    SplitName,
    Tracking,
    Variant,
)
from prunegrid.orchestrator.grid.resources import read_resources
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.catalog import ARCHITECTURES, AUGMENTATIONS, DATASETS, METHODS, DatasetEntry
from prunegrid.workers.contract import AdversarialTraining, DataSettings, TrainingSettings
from prunegrid.workers.decode import from_dict
from prunegrid.workers.identity import identity


class ScheduleTable(Table):
    """The learning rate falls where the validation loss does not (ReduceLROnPlateau)."""

    path = "training.lr_schedule"
    factor = Field(number(above=0, below=1), "the rate is multiplied by it")
    patience = Field(whole(minimum=1), "epochs without a better validation loss before it")
    min = Field(number(minimum=0), "the rate falls no lower", default=0.0)


class AdversarialTable(Table):
    """PGD inside training: the loss is (1 - mix) * clean + mix * adversarial."""

    path = "training.adversarial"
    mix = Field(number(above=0, maximum=1), "weight of the adversarial loss")
    eps = Field(number(above=0), "L-infinity radius; pixels are in [0, 1]")
    steps = Field(whole(minimum=1), "of PGD")
    rel_stepsize = Field(number(above=0), "step over eps", default=0.25)


_ADVERSARIAL: Kind[AdversarialTraining] = Kind(
    "mapping", lambda node: from_dict(AdversarialTraining, AdversarialTable.whole(node))
)


class TrainingTable(Table):
    """Training of the dense networks, by Adam on cross-entropy; `fine_tuning`, after each prune
    step, has the same keys. The defaults are the paper's for its three larger networks."""

    path = "training"
    batch_size = Field(whole(minimum=1), "images of a step", default=128)
    learning_rate = Field(number(above=0), "Adam's", default=0.001)
    max_epochs = Field(whole(minimum=1), "of each stage", default=150)
    early_stopping_patience = Field(
        optional(whole(minimum=1)), "epochs without a better validation loss", default=15
    )
    lr_schedule = Field(
        optional(section(ScheduleTable, "mapping")),
        "when the learning rate falls",
        default={"factor": 0.3, "patience": 12, "min": 1e-5},
        shown="{factor: 0.3, patience: 12, min: 1.0e-5}",
    )
    augmentation = Field(
        names_of(AUGMENTATIONS, "name"),
        f"one of {', '.join(AUGMENTATIONS)}: flip, pad so many pixels, crop back",
        default="none",
    )
    restore_best = Field(BOOLEAN, "keep the best epoch's weights, not the last's", default=False)
    adversarial = Field(optional(_ADVERSARIAL), "PGD in training", default=None)


def training_settings(values: Mapping[str, object]) -> TrainingSettings:
    """`values`: what a TrainingTable gave, the keys of `lr_schedule` aside."""
    flat = {name: value for name, value in values.items() if name != "lr_schedule"}
    schedule = values["lr_schedule"]
    for name in ScheduleTable.names():
        flat[f"lr_{name}"] = schedule[name] if isinstance(schedule, Mapping) else None
    return from_dict(TrainingSettings, flat)


class GridTable(Table):
    """The whole file."""

    path = ""
    name = Field(TEXT, "of the grid", default="", shown="the file's")
    seeds = Field(unique(whole(minimum=0), "seeds"), "each trains networks of its own")
    rates = Field(
        unique(number(minimum=1), "compression rates"),
        "weights before over weights left; 1 is the dense network",
    )
    methods = Field(
        unique(names_of(METHODS, "name"), "pruning methods"),
        "how weights are chosen; fine-tuning-only, the control, prunes none",
    )
    dense_model: Field[DenseModel] = Field(
        choice(get_args(DenseModel)),
        "a dense network for each method, or one",
        default="per_method",
    )
    architectures = Field(mapping(), "networks and their data, by name")
    images_per_shard = Field(SIZE, "images of one attack task", default=250)
    training = Field(maybe(mapping()), "of every dense network", default=None)
    fine_tuning = Field(
        maybe(mapping()), "what differs from `training` after a prune step", default=None
    )
    pruning = Field(maybe(mapping()), "of every variant", default=None)
    variants = Field(
        maybe(mapping()),
        "ways to train and prune, by name",
        default=None,
        shown="standard",
    )
    attacks = Field(mapping(), "by label")
    protocols = Field(
        maybe(mapping()), "ways to run the attacks, by name", default=None, shown="one"
    )
    resources = Field(maybe(mapping()), "what a task takes", default=None)
    price = Field(maybe(mapping()), "what a machine costs", default=None)
    track = Field(maybe(mapping()), "trackers that results go to as well", default=None)


class ArchitectureTable(Table):
    """One network."""

    path = "architectures.NAME"
    dataset = Field(names_of(DATASETS, "name"), "what it is trained on and attacked with")
    train_images = Field(
        maybe(whole(minimum=10)), "only so many first training images", default=None, shown="all"
    )
    validation_frac = Field(
        number(above=0, below=1), "the last part of the training images", default=0.1
    )
    attack_images = Field(whole(minimum=1), "the first images of the attacked split", default=1000)
    images_per_shard = Field(
        maybe(SIZE), "images of one attack task", default=None, shown="the grid's"
    )
    eps = Field(mapping("mapping of attack labels to lists"), "in the attack's norm")
    training = Field(maybe(mapping()), "what differs from the grid's", default=None)
    fine_tuning = Field(maybe(mapping()), "what differs from the grid's", default=None)


class PruningTable(Table):
    """How networks become sparse."""

    path = "pruning"
    schedule: Field[PruningSchedule] = Field(
        choice(get_args(PruningSchedule)),
        "one-shot: every rate from the dense network",
        default="iterative",
    )
    weights: Field[PrunedWeights] = Field(
        choice(get_args(PrunedWeights)),
        "what fine-tuning starts from; rewind: the initial ones",
        default="retain",
    )


class TrackTable(Table):
    """Trackers: each model becomes a run there, with its curves and cells. To change it redoes
    nothing."""

    path = "track"
    mlflow = Field(maybe(TEXT), "a tracking URI", default=None, shown="")
    tensorboard = Field(maybe(TEXT), "a folder of the driver's machine", default=None, shown="")
    wandb = Field(maybe(TEXT), "a project of Weights & Biases", default=None, shown="")


class VariantTable(Table):
    """What differs from the grid's own parts."""

    path = "variants.NAME"
    training = Field(maybe(mapping()), "of the dense networks", default=None)
    fine_tuning = Field(maybe(mapping()), "after each prune step", default=None)
    pruning = Field(maybe(mapping()), "how it prunes", default=None)


def read_grid(path: Path | str) -> Grid:
    """A grid file, checked: everything that it sets and every default. Raises GridError, with file
    and line, where it can't be read or is no grid."""
    return parse_grid(read_grid_text(Path(path)), source=str(path))


def read_grid_text(path: Path) -> str:
    """Raises GridError where the file can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise GridError("there is no such file", file=str(path), line=None) from None
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(f"can't be read: {error}", file=str(path), line=None) from error


def parse_grid(text: str, *, source: str) -> Grid:
    """A whole grid from YAML text. Raises GridError."""
    root = YamlNode.parse(text, file=source)
    fields = root.mapping(GridTable.names(), what="a grid (a mapping)")
    rates = GridTable.rates.of(fields, root)
    seeds = GridTable.seeds.of(fields, root)
    methods = GridTable.methods.of(fields, root)
    attacks = read_attacks(GridTable.attacks.of(fields, root))
    protocols = read_protocols(fields.get("protocols"), attacks=attacks, root=root)
    variants = _read_variants(fields)
    architectures = tuple(
        _read_architecture(name, node, fields=fields, variants=variants, protocols=protocols)
        for name, node in _named(GridTable.architectures.of(fields, root), "architectures")
    )
    resources, price = read_resources(fields.get("resources"), fields.get("price"))
    return Grid(
        name=GridTable.name.of(fields, root) or Path(source).stem,
        source=source,
        text=text,
        architectures=architectures,
        methods=methods,
        rates=tuple(sorted(rates)),
        seeds=seeds,
        dense_model=GridTable.dense_model.of(fields, root),
        resources=resources,
        price=price,
        track=_read_track(fields.get("track")),
    )


def _read_track(node: YamlNode | None) -> Tracking | None:
    return None if node is None else from_dict(Tracking, TrackTable.whole(node))


def _named(node: YamlNode, what: str) -> list[tuple[str, YamlNode]]:
    entries = list(node.mapping(what=f"a mapping of {what}").items())
    if not entries:
        raise node.fail(f"expected at least one of {what}, got none")
    return entries


# --------------------------------------------------------------------------- variants


@dataclass(frozen=True, kw_only=True)
class _VariantDraft:
    name: str
    training: YamlNode | None
    fine_tuning: YamlNode | None
    pruning: PruningPlan


def _read_variants(fields: dict[str, YamlNode]) -> list[_VariantDraft]:
    base = PruningTable.whole(None) | PruningTable.given(fields.get("pruning"))
    if "variants" not in fields:
        pruning = from_dict(PruningPlan, base)
        return [_VariantDraft(name="standard", training=None, fine_tuning=None, pruning=pruning)]
    out = []
    for name, node in _named(fields["variants"], "variants"):
        parts = {} if node.is_null else node.mapping(VariantTable.names())
        out.append(
            _VariantDraft(
                name=name,
                training=parts.get("training"),
                fine_tuning=parts.get("fine_tuning"),
                pruning=from_dict(PruningPlan, base | PruningTable.given(parts.get("pruning"))),
            )
        )
    return out


# --------------------------------------------------------------------------- architectures


def _read_architecture(
    name: str,
    node: YamlNode,
    *,
    fields: dict[str, YamlNode],
    variants: list[_VariantDraft],
    protocols: list[Protocol],
) -> ArchitecturePlan:
    if name not in ARCHITECTURES:
        raise node.fail(f"unknown architecture: {expected(ARCHITECTURES, name)}")
    own = node.mapping(ArchitectureTable.names())
    dataset = DATASETS[ArchitectureTable.dataset.of(own, node)]
    data = _read_data(own, node, dataset, name=name)
    images = ArchitectureTable.attack_images.of(own, node)
    of_grid = GridTable.images_per_shard.of(fields, node)
    shard = ArchitectureTable.images_per_shard.of(own, node) or of_grid
    plans = []
    for variant in variants:
        dense = TrainingTable.whole(None)
        for given in (fields.get("training"), own.get("training"), variant.training):
            dense |= TrainingTable.given(given)
        tuned = dict(dense)
        for given in (fields.get("fine_tuning"), own.get("fine_tuning"), variant.fine_tuning):
            tuned |= TrainingTable.given(given)
        plans.append(
            Variant(
                name=variant.name,
                training=training_settings(dense),
                fine_tuning=training_settings(tuned),
                pruning=variant.pruning,
            )
        )
    try:
        configuration = identity(name)
    except (ValueError, SyntaxError) as error:
        raise node.fail(f"can't be built: {error}") from error
    plan = ArchitecturePlan(
        name=name,
        configuration=configuration,
        data=data,
        attack_images=images,
        variants=tuple(plans),
        attacks=_plan_attacks(node, own, dataset, protocols, shard=shard),
    )
    _check_images(own.get("attack_images", node), plan, dataset)
    return plan


def _read_data(
    own: dict[str, YamlNode], node: YamlNode, dataset: DatasetEntry, *, name: str
) -> DataSettings:
    needed = ARCHITECTURES[name].input_shape
    small = dataset.shape[2] != needed[2] or (name != "resnet18" and dataset.shape != needed)
    if small:
        fit = [entry.name for entry in DATASETS.values() if entry.shape == needed]
        raise own["dataset"].fail(
            f"{name} takes images of {needed}, got {dataset.name} with {dataset.shape}; "
            f"expected one of {', '.join(fit)}"
        )
    limit = ArchitectureTable.train_images.of(own, node)
    if limit is not None and limit > dataset.train_images:
        raise own["train_images"].fail(
            f"expected at most {dataset.train_images}, the training images of {dataset.name}, "
            f"got {limit}"
        )
    return DataSettings(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        validation_frac=ArchitectureTable.validation_frac.of(own, node),
        train_images=limit,
    )


def _plan_attacks(
    node: YamlNode,
    own: dict[str, YamlNode],
    dataset: DatasetEntry,
    protocols: list[Protocol],
    *,
    shard: int,
) -> tuple[PlannedAttack, ...]:
    labels = list(dict.fromkeys(label for p in protocols for label in p.attacks))
    eps_node = ArchitectureTable.eps.of(own, node)
    eps_fields = eps_node.mapping(labels, what="a mapping of attacks to eps")
    if missing := [label for label in labels if label not in eps_fields]:
        raise eps_node.fail(f"expected eps for every attack, got none for {', '.join(missing)}")
    eps = {
        label: tuple(sorted(part.unique(lambda n: n.number(above=0), what="eps")))
        for label, part in eps_fields.items()
    }
    return tuple(
        PlannedAttack(
            label=label,
            protocol=protocol.name,
            settings=draft.settle(eps[label]),
            eps=eps[label],
            split=protocol.splits[dataset.name],
            images_per_shard=shard,
        )
        for protocol in protocols
        for label, draft in protocol.attacks.items()
    )


def _check_images(node: YamlNode, plan: ArchitecturePlan, dataset: DatasetEntry) -> None:
    train = plan.data.train_images or dataset.train_images
    sizes: dict[SplitName, int] = {
        "test": dataset.test_images,
        "validation": round(train * plan.data.validation_frac),
    }
    for attack in plan.attacks:
        if plan.attack_images > sizes[attack.split]:
            raise node.fail(
                f"expected at most {sizes[attack.split]}, the {attack.split} images of "
                f"{dataset.name} that protocol {attack.protocol} attacks, got {plan.attack_images}"
            )

"""`grid.yaml` to a `Grid`: defaults, overrides, and every refusal, with its line.

Overrides go from the general to the particular: the grid's `training`, then the architecture's,
then the variant's; an attack's settings, then the protocol's for that attack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, get_args

from prunegrid.orchestrator.errors import GridError, expected
from prunegrid.orchestrator.grid.attack_fields import SIZE, Protocol, read_attacks, read_protocols
from prunegrid.orchestrator.grid.data_fields import OwnDatasets, read_datasets
from prunegrid.orchestrator.grid.fields import (
    BOOLEAN,
    TEXT,
    Field,
    Kind,
    Table,
    choice,
    mapping,
    maybe,
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
    PlannedMethod,
    PrunedWeights,
    PruningPlan,
    PruningSchedule,
    SplitName,
    Tracking,
    Transfer,
    Variant,
)
from prunegrid.orchestrator.grid.method_fields import read_methods
from prunegrid.orchestrator.grid.resources import read_resources
from prunegrid.orchestrator.grid.user_fields import OPTIONS, VERSION, user_code
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.catalog import ARCHITECTURES, DATASETS
from prunegrid.workers.contract import (
    OWN,
    AdversarialTraining,
    Augmentation,
    DataSettings,
    OwnNetwork,
    TrainingSettings,
)
from prunegrid.workers.dataset_entry import DatasetEntry
from prunegrid.workers.decode import from_dict
from prunegrid.workers.identity import ask, identity
from prunegrid.workers.network_facts import NetworkFacts, NetworkRequest, file_sha256
from prunegrid.workers.user_code import UserCode, is_target, look_beside, sources_digest


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


_AUGMENTATIONS = ("none", "flip_crop_6", "flip_crop_60")


class AugmentationTable(Table):
    """Random changes of training images; `flip_crop_6` is `{flip: true, pad: 6}`."""

    path = "training.augmentation"
    flip = Field(BOOLEAN, "left to right, every other image", default=False)
    pad = Field(whole(minimum=0), "black pixels around, before a crop of the old size", default=0)


def _read_augmentation(node: YamlNode) -> str:
    if node.is_mapping:
        return from_dict(Augmentation, AugmentationTable.whole(node)).name
    return node.choice(_AUGMENTATIONS)


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
        Kind(
            f"{', '.join(f'`{name}`' for name in _AUGMENTATIONS)}, or `{{flip: BOOLEAN, pad: N}}`",
            _read_augmentation,
        ),
        "random flips; so many black pixels around, and a crop of the old size",
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
        mapping("list of different pruning methods: names, or mappings as below"),
        "how weights are chosen; fine-tuning-only, the control, prunes none",
    )
    dense_model: Field[DenseModel] = Field(
        choice(get_args(DenseModel)),
        "a dense network for each method, or one",
        default="per_method",
    )
    architectures = Field(mapping(), "networks and their data, by name")
    datasets = Field(maybe(mapping()), "data sets of one's own, by label", default=None)
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
    transfer = Field(
        maybe(mapping("`true`, `false`, or a mapping")),
        "adversarials that are shown to other models",
        default=None,
        shown="false",
    )
    keep_adversarials = Field(
        BOOLEAN,
        "all adversarials of every attack, in the store; `transfer` keeps those that it needs",
        default=False,
    )
    resources = Field(maybe(mapping()), "what a task takes", default=None)
    price = Field(maybe(mapping()), "what a machine costs", default=None)
    track = Field(maybe(mapping()), "trackers that results go to as well", default=None)


def _read_kept(node: YamlNode) -> tuple[str, ...]:
    return node.unique(lambda part: part.text(), what="layers")


class ArchitectureTable(Table):
    """One network, under a label of its own: of the catalog, what a function builds, or a file's
    ([Your own network](own.md))."""

    path = "architectures.LABEL"
    build = Field(
        TEXT,
        "name in the catalog, or `module:function`, which returns a Keras model",
        default="",
        shown="the label",
    )
    options = OPTIONS
    version = VERSION
    model = Field(maybe(TEXT), "a .keras file instead, beside the grid file", default=None)
    weights: Field[Literal["trained", "fresh"]] = Field(
        choice(("trained", "fresh")),
        "of that file; trained: as they are, without training of the dense network",
        default="trained",
    )
    prune_except = Field(
        Kind("list of different layers", _read_kept), "layers that no method prunes", default=()
    )
    dataset = Field(
        mapping(f"one of {', '.join(f'`{name}`' for name in DATASETS)}, or a label of `datasets`"),
        "what it is trained on and attacked with",
    )
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


class TransferTable(Table):
    """Adversarials made on each dense model, shown to the models pruned from it, and those made on
    these, shown to it. It costs forward passes alone; `true` takes every attack. To change it
    redoes no attack that kept its adversarials."""

    path = "transfer"
    attacks = Field(
        unique(TEXT, "labels of attacks"), "only these", default=(), shown="every attack"
    )
    protocols = Field(
        unique(TEXT, "protocols"), "only under these", default=(), shown="every protocol"
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


def read_grid(path: Path | str, *, data_dir: Path | None = None) -> Grid:
    """A grid file, checked: everything that it sets and every default. `data_dir`: where data sets
    are prepared; None: the default place. Raises GridError, with file and line, where it can't be
    read or is no grid."""
    if not isinstance(path, str | PurePath):
        text = f"expected the path of a grid file, got {type(path).__name__}"
        raise GridError(text, file="grid", line=None)
    text = read_grid_text(Path(path))
    look_beside(Path(path))
    return parse_grid(text, source=str(path), data_dir=data_dir)


def read_grid_text(path: Path) -> str:
    """Raises GridError where the file can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise GridError("there is no such file", file=str(path), line=None) from None
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(f"can't be read: {error}", file=str(path), line=None) from error


def refusal(grid: Grid, *keys: str, message: str) -> GridError:
    """An error at the line of `keys` in the grid's file, as far as it has them."""
    node = YamlNode.parse(grid.text, file=grid.source)
    for key in keys:
        children = node.mapping() if node.is_mapping else {}
        if key not in children:
            break
        node = children[key]
    return node.fail(message)


def parse_grid(text: str, *, source: str, data_dir: Path | None = None) -> Grid:
    """A whole grid from YAML text. `data_dir`: where data sets are prepared; None: the default
    place. Raises GridError."""
    root = YamlNode.parse(text, file=source)
    fields = root.mapping(GridTable.names(), what="a grid (a mapping)")
    rates = GridTable.rates.of(fields, root)
    seeds = GridTable.seeds.of(fields, root)
    methods = read_methods(GridTable.methods.of(fields, root), rates)
    attacks = read_attacks(GridTable.attacks.of(fields, root))
    datasets = read_datasets(fields.get("datasets"), data_dir=data_dir)
    protocols = read_protocols(
        fields.get("protocols"), attacks=attacks, datasets=datasets.names, root=root
    )
    variants = _read_variants(fields)
    named = [
        _read_network(label, node, datasets)
        for label, node in _named(GridTable.architectures.of(fields, root), "architectures")
    ]
    architectures = tuple(
        _read_architecture(network, found, fields=fields, variants=variants, protocols=protocols)
        for network, found in zip(named, _facts(named), strict=True)
    )
    resources, price = read_resources(fields.get("resources"), fields.get("price"))
    return Grid(
        name=GridTable.name.of(fields, root) or Path(source).stem,
        source=source,
        text=text,
        architectures=architectures,
        pruning_methods=methods,
        seeds=seeds,
        dense_model=GridTable.dense_model.of(fields, root),
        resources=resources,
        price=price,
        track=_read_track(fields.get("track")),
        transfer=_read_transfer(fields.get("transfer"), attacks, protocols, methods),
        keep_adversarials=GridTable.keep_adversarials.of(fields, root),
    )


def _read_track(node: YamlNode | None) -> Tracking | None:
    return None if node is None else from_dict(Tracking, TrackTable.whole(node))


def _read_transfer(
    node: YamlNode | None,
    attacks: Mapping[str, object],
    protocols: Sequence[Protocol],
    methods: Sequence[PlannedMethod],
) -> Transfer | None:
    if node is None or (not node.is_mapping and not node.boolean()):
        return None
    if all(method.rates[-1] == 1 for method in methods):
        raise node.fail(
            "expected a rate above 1, got none: there is no other model to show them to"
        )
    own = node.mapping(TransferTable.names()) if node.is_mapping else {}
    names = [protocol.name for protocol in protocols]
    for field, known in (("attacks", list(attacks)), ("protocols", names)):
        if field in own:
            own[field].unique(choice(tuple(known)).read, what=field)
    return from_dict(Transfer, TransferTable.whole(node if node.is_mapping else None))


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


@dataclass(frozen=True, kw_only=True)
class _NetworkDraft:
    """An architecture's part of the file, before Keras was asked what it is."""

    label: str
    node: YamlNode
    own: dict[str, YamlNode]
    dataset: DatasetEntry
    own_data: bool  #: not of the catalog
    architecture: str  #: of the catalog, or OWN
    code: UserCode | None
    path: str  #: of a .keras file, or ""
    trained: bool
    kept: tuple[str, ...]

    @property
    def request(self) -> NetworkRequest | None:
        """What to ask; None for a network of the catalog as it is, see `identity`."""
        if self.architecture != OWN and not self.kept:
            return None
        return NetworkRequest(
            target="" if self.architecture == OWN else ARCHITECTURES[self.architecture].target,
            code=self.code,
            file_path=self.path,
            trained=self.trained,
            input_shape=self.dataset.shape,
            classes=self.dataset.classes,
            prune_except=self.kept,
        )


def _read_network(label: str, node: YamlNode, datasets: OwnDatasets) -> _NetworkDraft:
    table = ArchitectureTable
    if not node.is_mapping and label not in ARCHITECTURES:
        raise node.fail(f"unknown architecture: {expected(ARCHITECTURES, label)}")
    own = node.mapping(table.names())
    name = table.build.of(own, node) or label
    model = table.model.of(own, node)
    code = None
    if model is not None:
        if clash := [key for key in ("build", "options", "version") if key in own]:
            raise own[clash[0]].fail("expected `build` or `model`, got both")
        architecture = OWN
    elif "weights" in own:
        raise own["weights"].fail("expected `model: FILE.keras` beside it, got none")
    elif is_target(name):
        code, architecture = user_code(name, own, node), OWN
    elif name in ARCHITECTURES:
        architecture = name
        if clash := [key for key in ("options", "version") if key in own]:
            raise own[clash[0]].fail(f"expected no options of {name}, which has none")
    else:
        raise own.get("build", node).fail(
            f"unknown architecture: {expected(ARCHITECTURES, name)}, or `build: module:function`, "
            "or `model: FILE.keras`"
        )
    dataset, own_data = datasets.entry(table.dataset.of(own, node))
    draft = _NetworkDraft(
        label=label,
        node=node,
        own=own,
        dataset=dataset,
        own_data=own_data,
        architecture=architecture,
        code=code,
        path="" if model is None else node.beside(model),
        trained=model is not None and table.weights.of(own, node) == "trained",
        kept=table.prune_except.of(own, node),
    )
    _check_shape(draft)
    return draft


def _check_shape(draft: _NetworkDraft) -> None:
    """A network of the catalog under its own name takes the paper's images, or the user's."""
    if draft.architecture == OWN:
        return
    entry, dataset = ARCHITECTURES[draft.architecture], draft.dataset
    name, shape, least = entry.name, dataset.shape, entry.min_size
    if min(shape[:2]) < least:
        raise draft.own["dataset"].fail(
            f"{name} takes images of at least {least}x{least}, got {dataset.name} with {shape}"
        )
    papers = shape == entry.input_shape or (name == "resnet18" and shape[2] == entry.input_shape[2])
    if draft.label == name and not draft.own_data and not papers:
        fit = [other.name for other in DATASETS.values() if other.shape == entry.input_shape]
        raise draft.own["dataset"].fail(
            f"{name} takes images of {entry.input_shape}, got {dataset.name} with {shape}; "
            f"expected one of {', '.join(fit)}, or a label of its own and `build: {name}`"
        )


def _facts(drafts: Sequence[_NetworkDraft]) -> list[NetworkFacts | None]:
    """What Keras says of each, asked once for all; None where it need not be asked."""
    asked = [(draft, draft.request) for draft in drafts]
    requests = [request for _, request in asked if request is not None]
    for draft, request in asked:
        try:
            if draft.code is not None:
                sources_digest(draft.code.target)
            elif request is not None:
                file_sha256(request.file_path)
        except ValueError as error:
            key = "model" if draft.path else "build"
            raise draft.own.get(key, draft.node).fail(str(error)) from error
    answers = iter(ask(requests) if requests else [])
    out: list[NetworkFacts | None] = []
    for draft, request in asked:
        answer = None if request is None else next(answers)
        if isinstance(answer, str):
            raise draft.node.fail(f"can't be built: {answer}")
        out.append(answer)
    return out


#: Of a network that comes trained: its evaluation has one key, whatever the grid's `training`.
_AS_TRAINED = TrainingSettings(
    batch_size=1,
    learning_rate=1.0,
    max_epochs=0,
    early_stopping_patience=None,
    lr_factor=None,
    lr_patience=None,
    lr_min=None,
    augmentation="none",
    restore_best=False,
    adversarial=None,
)


def _read_architecture(
    draft: _NetworkDraft,
    facts: NetworkFacts | None,
    *,
    fields: dict[str, YamlNode],
    variants: list[_VariantDraft],
    protocols: list[Protocol],
) -> ArchitecturePlan:
    own, node, dataset = draft.own, draft.node, draft.dataset
    data = _read_data(own, node, dataset, own_data=draft.own_data)
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
        if draft.trained and variant.pruning.weights == "rewind":
            raise own["model"].fail(
                "pruning.weights: expected retain or reinitialize for a trained file, got rewind: "
                "it has no weights from before its training"
            )
        plans.append(
            Variant(
                name=variant.name,
                training=_AS_TRAINED if draft.trained else training_settings(dense),
                fine_tuning=training_settings(tuned),
                pruning=variant.pruning,
            )
        )
    plan = ArchitecturePlan(
        name=draft.label,
        architecture=draft.architecture,
        configuration=_configuration(draft, facts),
        prune_except=draft.kept,
        network=_own_network(draft, facts),
        facts=facts,
        data=data,
        attack_images=images,
        variants=tuple(plans),
        attacks=_plan_attacks(
            node, own, dataset, protocols, shard=shard, known=fields["attacks"].mapping()
        ),
    )
    _check_images(own.get("attack_images", node), plan, dataset)
    return plan


def _configuration(draft: _NetworkDraft, facts: NetworkFacts | None) -> str:
    if draft.architecture == OWN and facts is not None:
        return facts.configuration
    try:
        return identity(draft.architecture)
    except (ValueError, SyntaxError) as error:
        raise draft.node.fail(f"can't be built: {error}") from error


def _own_network(draft: _NetworkDraft, facts: NetworkFacts | None) -> OwnNetwork | None:
    """None for a network of the catalog under its own name."""
    if draft.architecture == draft.label:
        return None
    return OwnNetwork(
        label=draft.label,
        code=draft.code,
        file_sha256=facts.file_sha256 if facts is not None else "",
        file_path=draft.path,
        trained=draft.trained,
        forward_flops=facts.forward_flops if facts is not None else 0,
    )


def _read_data(
    own: dict[str, YamlNode], node: YamlNode, dataset: DatasetEntry, *, own_data: bool
) -> DataSettings:
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
        own=dataset if own_data else None,
    )


def _plan_attacks(
    node: YamlNode,
    own: dict[str, YamlNode],
    dataset: DatasetEntry,
    protocols: list[Protocol],
    *,
    shard: int,
    known: Iterable[str],
) -> tuple[PlannedAttack, ...]:
    labels = list(dict.fromkeys(label for p in protocols for label in p.attacks))
    eps_node = ArchitectureTable.eps.of(own, node)
    # Those of protocols that are not enabled may have theirs.
    eps_fields = eps_node.mapping(
        dict.fromkeys([*labels, *known]), what="a mapping of attacks to eps"
    )
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

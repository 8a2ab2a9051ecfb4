"""`grid.yaml` to a `Grid`: defaults, overrides, and every refusal, with its line.

Overrides go from the general to the particular: the grid's `training`, then the architecture's,
then the variant's; an attack's settings, then the protocol's for that attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from prunegrid.orchestrator.errors import GridError, expected
from prunegrid.orchestrator.grid.attacks import Protocol, read_attacks, read_protocols, read_size
from prunegrid.orchestrator.grid.grid import (
    ArchitecturePlan,
    Grid,
    PlannedAttack,
    PruningPlan,
    Split,
    Variant,
)
from prunegrid.orchestrator.grid.resources import read_resources
from prunegrid.orchestrator.grid.training import TrainingDraft, read_training
from prunegrid.orchestrator.grid.yaml_nodes import Node, require
from prunegrid.workers.catalog import ARCHITECTURES, DATASETS, METHODS, DatasetEntry
from prunegrid.workers.contract import DataSettings

KEYS = (
    "name",
    "seeds",
    "rates",
    "methods",
    "dense_model",
    "architectures",
    "images_per_shard",
    "training",
    "fine_tuning",
    "pruning",
    "variants",
    "attacks",
    "protocols",
    "resources",
    "price",
)
ARCHITECTURE_KEYS = (
    "dataset",
    "train_images",
    "validation_frac",
    "attack_images",
    "images_per_shard",
    "eps",
    "training",
    "fine_tuning",
)


def read_grid(path: Path) -> Grid:
    """Raises GridError where the file can't be read or is no grid."""
    return parse_grid(read_grid_text(path), source=str(path))


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
    root = Node.parse(text, file=source)
    fields = root.mapping(KEYS, what="a grid (a mapping)")
    rates = require(fields, "rates", root).unique(
        lambda n: n.number(minimum=1), what="compression rates"
    )
    seeds = require(fields, "seeds", root).unique(lambda n: n.integer(minimum=0), what="seeds")
    methods = require(fields, "methods", root).unique(
        lambda n: n.choice(METHODS), what="pruning methods"
    )
    attacks = read_attacks(require(fields, "attacks", root))
    protocols = read_protocols(fields.get("protocols"), attacks=attacks, root=root)
    variants = _read_variants(fields)
    architectures = tuple(
        _read_architecture(name, node, fields=fields, variants=variants, protocols=protocols)
        for name, node in _named(require(fields, "architectures", root), "architectures")
    )
    resources, price = read_resources(fields.get("resources"), fields.get("price"))
    dense = "per_method"
    if "dense_model" in fields:
        dense = fields["dense_model"].choice(("per_method", "shared"))
    return Grid(
        name=fields["name"].text() if "name" in fields else Path(source).stem,
        source=source,
        text=text,
        architectures=architectures,
        methods=methods,
        rates=tuple(sorted(rates)),
        seeds=seeds,
        dense_model=cast(Literal["per_method", "shared"], dense),
        resources=resources,
        price=price,
    )


def _named(node: Node, what: str) -> list[tuple[str, Node]]:
    entries = list(node.mapping(what=f"a mapping of {what}").items())
    if not entries:
        raise node.fail(f"expected at least one of {what}, got none")
    return entries


# --------------------------------------------------------------------------- variants


@dataclass(frozen=True, kw_only=True)
class _VariantDraft:
    name: str
    training: Node | None
    fine_tuning: Node | None
    pruning: PruningPlan


def _read_variants(fields: dict[str, Node]) -> list[_VariantDraft]:
    base = _read_pruning(fields.get("pruning"), PruningPlan(schedule="iterative", weights="retain"))
    if "variants" not in fields:
        return [_VariantDraft(name="standard", training=None, fine_tuning=None, pruning=base)]
    out = []
    for name, node in _named(fields["variants"], "variants"):
        parts = {} if node.is_null else node.mapping(("training", "fine_tuning", "pruning"))
        out.append(
            _VariantDraft(
                name=name,
                training=parts.get("training"),
                fine_tuning=parts.get("fine_tuning"),
                pruning=_read_pruning(parts.get("pruning"), base),
            )
        )
    return out


def _read_pruning(node: Node | None, base: PruningPlan) -> PruningPlan:
    if node is None:
        return base
    fields = node.mapping(("schedule", "weights"))
    schedule = base.schedule
    weights = base.weights
    if "schedule" in fields:
        schedule = cast(Any, fields["schedule"].choice(("iterative", "one-shot")))
    if "weights" in fields:
        weights = cast(Any, fields["weights"].choice(("retain", "rewind", "reinitialize")))
    return PruningPlan(schedule=schedule, weights=weights)


# --------------------------------------------------------------------------- architectures


def _read_architecture(
    name: str,
    node: Node,
    *,
    fields: dict[str, Node],
    variants: list[_VariantDraft],
    protocols: list[Protocol],
) -> ArchitecturePlan:
    if name not in ARCHITECTURES:
        raise node.fail(f"unknown architecture: {expected(ARCHITECTURES, name)}")
    own = node.mapping(ARCHITECTURE_KEYS)
    dataset = DATASETS[require(own, "dataset", node).choice(DATASETS)]
    data, images = _read_data(own, dataset, name=name)
    shard = _read_shard(own, _read_shard(fields, 250))
    draft = TrainingDraft()
    if "training" in fields:
        draft = read_training(fields["training"], draft)
    if "training" in own:
        draft = read_training(own["training"], draft)
    plans = []
    for variant in variants:
        dense = read_training(variant.training, draft) if variant.training else draft
        tuned = dense
        for part in (fields.get("fine_tuning"), own.get("fine_tuning"), variant.fine_tuning):
            if part is not None:
                tuned = read_training(part, tuned)
        plans.append(
            Variant(
                name=variant.name,
                training=dense.settle(),
                fine_tuning=tuned.settle(),
                pruning=variant.pruning,
            )
        )
    plan = ArchitecturePlan(
        name=name,
        data=data,
        attack_images=images,
        variants=tuple(plans),
        attacks=_plan_attacks(node, own, dataset, protocols, shard=shard),
    )
    _check_images(own.get("attack_images", node), plan, dataset)
    return plan


def _read_shard(fields: dict[str, Node], base: int) -> int:
    node = fields.get("images_per_shard")
    return base if node is None else read_size(node)


def _read_data(own: dict[str, Node], dataset: DatasetEntry, *, name: str) -> tuple[Any, int]:
    needed = ARCHITECTURES[name].input_shape
    small = dataset.shape[2] != needed[2] or (name != "resnet18" and dataset.shape != needed)
    if small:
        fit = [entry.name for entry in DATASETS.values() if entry.shape == needed]
        raise own["dataset"].fail(
            f"{name} takes images of {needed}, got {dataset.name} with {dataset.shape}; "
            f"expected one of {', '.join(fit)}"
        )
    frac = own["validation_frac"].number(above=0) if "validation_frac" in own else 0.1
    if frac >= 1:
        raise own["validation_frac"].fail(f"expected a number between 0 and 1, got {frac:g}")
    limit = None
    if "train_images" in own:
        limit = own["train_images"].integer(minimum=10, maximum=dataset.train_images)
    images = 1000
    if "attack_images" in own:
        images = own["attack_images"].integer(minimum=1)
    data = DataSettings(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        validation_frac=frac,
        train_images=limit,
    )
    return data, images


def _plan_attacks(
    node: Node,
    own: dict[str, Node],
    dataset: DatasetEntry,
    protocols: list[Protocol],
    *,
    shard: int,
) -> tuple[PlannedAttack, ...]:
    labels = list(dict.fromkeys(label for p in protocols for label in p.attacks))
    eps_node = require(own, "eps", node)
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
            split=protocol.split(dataset.name),
            images_per_shard=shard,
        )
        for protocol in protocols
        for label, draft in protocol.attacks.items()
    )


def _check_images(node: Node, plan: ArchitecturePlan, dataset: DatasetEntry) -> None:
    train = plan.data.train_images or dataset.train_images
    sizes: dict[Split, int] = {
        "test": dataset.test_images,
        "validation": round(train * plan.data.validation_frac),
    }
    for attack in plan.attacks:
        if plan.attack_images > sizes[attack.split]:
            raise node.fail(
                f"expected at most {sizes[attack.split]}, the {attack.split} images of "
                f"{dataset.name} that protocol {attack.protocol} attacks, got {plan.attack_images}"
            )

"""Batch and shard sizes from what was measured. Pure.

A task should be long beside what it costs to begin one (a call, weights, compiled functions), and
short beside what a lost worker or the end of a grid costs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from prunegrid.orchestrator.grid.grid import Grid, PlannedAttack, Selection, SizeName
from prunegrid.orchestrator.grid.sizes import BatchSize, ShardSize, Sizes, probe_of, settle
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell, expand
from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.plan.guesses import attack_looks
from prunegrid.workers.contract import AttackSettings
from prunegrid.workers.speeds import Probe, Speed

#: What a task should take; and what none is cut below so that every slot has one.
TARGET_S, LEAST_S = 90.0, 10.0
#: Time of an attack over that of its guessed looks, as bare passes: the engines that repeat Foolbox
#: leave off early in C&W alone, the stock one is slower by itself (docs/attacks.md, "Speed").
_OVER_LOOKS: Mapping[str, float] = {"strict": 1.5, "foolbox": 2.0, "foolbox-stock": 8.0}


def images_per_shard(*, image_s: float, batch: int, images: int, models: int, slots: int) -> int:
    """A whole multiple of the batch, so that no shard cuts one, that takes about TARGET_S.

    `image_s`: seconds an image takes; `images`: to attack, of each of `models`. Smaller where
    some of `slots` would have nothing to do, but not below LEAST_S; shards of a model are as
    equal as whole batches can be. Where even a batch takes longer, a batch.
    """
    batch_s = batch * image_s
    batches = math.ceil(images / batch)
    size = min(batches, max(1, math.floor(TARGET_S / batch_s)))
    least = min(size, math.ceil(LEAST_S / batch_s))
    wanted = math.ceil(slots / models)  # shards of each model
    if wanted > 1:
        size = max(least, min(size, math.ceil(batches / (wanted - 1)) - 1))
    return batch * math.ceil(batches / math.ceil(batches / size))


def image_seconds(settings: AttackSettings, speed: Speed) -> float:
    """What an image takes, we expect, by the attack's settings and a measured speed."""
    looks = attack_looks(settings) * _OVER_LOOKS[settings.engine]
    return looks / speed.at(settings.batch_size)


def unmeasured(plan: Plan, sizes: Sizes) -> tuple[Probe, ...]:
    """What of a plan must be measured before it can run."""
    probes = dict.fromkeys(_probe(cell) for cell in plan.cells if cell.attack.assumed)
    return tuple(probe for probe in probes if sizes.batch(probe) is None)


def choose(
    grid: Grid, select: Selection, sizes: Sizes, speeds: Iterable[Speed], *, slots: int
) -> Sizes:
    """`sizes` with what a part of a grid lacks in it; what is there stays. `speeds`: of what
    `unmeasured` names; `slots`: tasks at once."""
    images = {plan.name: plan.attack_images for plan in grid.architectures}
    batches = (
        BatchSize(speed=speed, images=speed.best(images[speed.architecture])) for speed in speeds
    )
    sizes = Sizes(batches=(*sizes.batches, *batches), shards=sizes.shards)
    plan = expand(settle(grid, sizes), select)
    shards: dict[tuple[Probe, AttackSettings], ShardSize] = {}
    for (probe, attack), models in _models_attacked(plan).items():
        batch = sizes.batch(probe)
        if "images_per_shard" not in attack.assumed or batch is None:
            continue
        settings = attack.settings
        image_s = image_seconds(settings, batch.speed)
        count = images_per_shard(
            image_s=image_s,
            batch=settings.batch_size,
            images=images[probe.architecture],
            models=models,
            slots=slots,
        )
        shards[probe, settings] = ShardSize(
            architecture=probe.architecture,
            dataset=probe.dataset,
            attack=settings,
            images=count,
            expected_s=round(image_s * min(count, images[probe.architecture]), 1),
        )
    return Sizes(batches=sizes.batches, shards=(*sizes.shards, *shards.values()))


def _probe(cell: PlannedCell) -> Probe:
    place = cell.place.model
    return Probe(architecture=place.architecture, dataset=place.dataset)


def _models_attacked(plan: Plan) -> dict[tuple[Probe, PlannedAttack], int]:
    """How many models each attack is run on; one that several methods share counts once."""
    first_tasks: dict[tuple[Probe, PlannedAttack], set[str]] = {}
    for cell in plan.cells:
        first_tasks.setdefault((_probe(cell), cell.attack), set()).add(cell.task_keys[0])
    return {case: len(keys) for case, keys in first_tasks.items()}


def with_all_auto(grid: Grid) -> Grid:
    """As if it left to measurement whatever may be left to it."""

    def freed(attack: PlannedAttack) -> PlannedAttack:
        strict = attack.settings.engine == "strict"
        names: tuple[SizeName, ...] = ("images_per_shard",)
        return dataclasses.replace(attack, auto=("batch_size", *names) if strict else names)

    plans = (
        dataclasses.replace(plan, attacks=tuple(map(freed, plan.attacks)))
        for plan in grid.architectures
    )
    return settle(dataclasses.replace(grid, architectures=tuple(plans)), Sizes())


def sizes_json(plan: Plan, sizes: Sizes) -> list[dict[str, Any]]:
    """Of every attack of a plan, ready for JSON. `auto`: what the grid leaves to measurement;
    `task_s`: seconds that a task was expected to take when its size was chosen."""
    cases = dict.fromkeys((_probe(cell), cell.attack) for cell in plan.cells)
    out = []
    for probe, attack in cases:
        shard = sizes.shard(probe, attack.settings)
        by_choice = shard is not None and "images_per_shard" in attack.auto
        out.append(
            {
                "architecture": probe.architecture,
                "protocol": attack.protocol,
                "attack": attack.label,
                "batch_size": attack.settings.batch_size,
                "images_per_shard": attack.images_per_shard,
                "auto": list(attack.auto),
                "task_s": shard.expected_s if shard is not None and by_choice else None,
            }
        )
    return out


def sizes_text(plan: Plan, sizes: Sizes) -> list[str]:
    """What `auto` stands for in a plan, in a line per device."""
    parts: dict[tuple[str, str], list[str]] = {}
    for architecture in plan.grid.architectures:
        probe = probe_of(architecture)
        attacks = {a.attack: None for a in plan.cells if _probe(a) == probe and a.attack.auto}
        batch = sizes.batch(probe)
        if attacks and batch is not None:
            where = (batch.speed.device, batch.speed.host)
            text = _text(list(attacks), batch, probe, sizes, architecture.attack_images)
            parts.setdefault(where, []).append(f"{probe.architecture} {text}")
    return [
        f"sizes measured on {device} ({host}): {'; '.join(texts)}"
        for (device, host), texts in parts.items()
    ]


def _text(
    attacks: Sequence[PlannedAttack], batch: BatchSize, probe: Probe, sizes: Sizes, images: int
) -> str:
    """`batch 64, 64 images per shard for cw_l2 (about 80 s a task), 1000 for the others (..)`."""
    out = []
    if any("batch_size" in attack.auto for attack in attacks):
        out.append(f"batch {batch.images}")
    by_size: dict[int, dict[str, float]] = {}
    several = len({attack.protocol for attack in attacks}) > 1
    for attack in attacks:
        shard = sizes.shard(probe, attack.settings)
        if shard is not None and "images_per_shard" in attack.auto:
            name = f"{attack.protocol} {attack.label}" if several else attack.label
            by_size.setdefault(min(shard.images, images), {})[name] = shard.expected_s
    unit = " images per shard"
    for size, tasks in sorted(by_size.items()):
        many = "the others" if size == max(by_size) else f"{len(tasks)} attacks"
        whose = f" for {', '.join(tasks) if len(tasks) <= 3 else many}" if len(by_size) > 1 else ""
        out.append(f"{size}{unit}{whose} ({_range_text(tasks.values())} a task)")
        unit = ""
    return ", ".join(out)


def _range_text(seconds: Collection[float]) -> str:
    """`about 90 s`, `1 s to 90 s`, `under a second`."""
    low, high = (duration_text(value) for value in (min(seconds), max(seconds)))
    if max(seconds) < 1:
        return "under a second"
    return f"about {high}" if low == high else f"{low} to {high}"

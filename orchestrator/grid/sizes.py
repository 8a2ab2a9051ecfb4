"""Sizes that a grid file leaves to measurement by `auto`: what was measured, and chosen from it.

They are in the tasks' keys, so a store chooses once (`plan/sizes.py`) and keeps them. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from prunegrid.orchestrator.grid.grid import ArchitecturePlan, Grid, PlannedAttack, SizeName
from prunegrid.workers.contract import AttackSettings
from prunegrid.workers.speeds import Probe, Speed

#: What a plan counts with where nothing was measured yet.
ASSUMED_BATCH, ASSUMED_SHARD = 128, 256


@dataclass(frozen=True, kw_only=True)
class BatchSize:
    """Of one architecture on one data set, for every attack that leaves it to measurement."""

    speed: Speed
    images: int  #: a multiple of 16

    def __post_init__(self) -> None:
        if not isinstance(self.images, int) or self.images < 16 or self.images % 16:
            raise ValueError(f"a batch size: expected a multiple of 16, got {self.images!r}")


@dataclass(frozen=True, kw_only=True)
class ShardSize:
    """Of one attack's tasks. Other settings are other work, and have a size of their own."""

    architecture: str
    dataset: str
    attack: AttackSettings
    images: int
    expected_s: float  #: of a task, as it looked when the size was chosen

    def __post_init__(self) -> None:
        if not isinstance(self.images, int) or self.images < 1:
            raise ValueError(f"images of a shard: expected at least 1, got {self.images!r}")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    batches: tuple[BatchSize, ...] = ()
    shards: tuple[ShardSize, ...] = ()

    @cached_property
    def _by_probe(self) -> Mapping[Probe, BatchSize]:
        return {batch.speed.probe: batch for batch in self.batches}

    @cached_property
    def _by_attack(self) -> Mapping[tuple[str, str, AttackSettings], ShardSize]:
        return {(s.architecture, s.dataset, s.attack): s for s in self.shards}

    def batch(self, probe: Probe) -> BatchSize | None:
        return self._by_probe.get(probe)

    def shard(self, probe: Probe, attack: AttackSettings) -> ShardSize | None:
        return self._by_attack.get((probe.architecture, probe.dataset, attack))


def probe_of(architecture: ArchitecturePlan) -> Probe:
    return Probe(architecture=architecture.name, dataset=architecture.data.dataset)


def settle(grid: Grid, sizes: Sizes) -> Grid:
    """`grid` with its `auto` filled in from `sizes`; what is not there is assumed."""

    def settled(plan: ArchitecturePlan) -> ArchitecturePlan:
        attacks = tuple(_settle(attack, probe_of(plan), sizes) for attack in plan.attacks)
        return dataclasses.replace(plan, attacks=attacks)

    return dataclasses.replace(grid, architectures=tuple(map(settled, grid.architectures)))


def _settle(attack: PlannedAttack, probe: Probe, sizes: Sizes) -> PlannedAttack:
    assumed: list[SizeName] = []
    settings, size = attack.settings, attack.images_per_shard
    if "batch_size" in attack.auto:
        batch = sizes.batch(probe)
        assumed += ["batch_size"] * (batch is None)
        images = batch.images if batch else ASSUMED_BATCH
        settings = dataclasses.replace(settings, batch_size=images)
    if "images_per_shard" in attack.auto:
        shard = sizes.shard(probe, settings)  # of the settled settings: the batch is one of them
        assumed += ["images_per_shard"] * (shard is None)
        size = shard.images if shard else ASSUMED_SHARD
    return dataclasses.replace(
        attack, settings=settings, images_per_shard=size, assumed=tuple(assumed)
    )

"""Stores of earlier versions whose grid.yaml says `auto`. Nothing new is written in this form.

A grid could say `batch_size: auto` and `images_per_shard: auto`; the first run measured, chose
sizes and kept them in the store's sizes.json. Such a store is read by these sizes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from prunegrid.orchestrator.errors import GridError, StoreError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.first_names import with_first_names
from prunegrid.orchestrator.grid.grid import ArchitecturePlan, Grid, PlannedAttack
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import AttackSettings
from prunegrid.workers.decode import from_dict
from prunegrid.workers.speeds import Speed

SIZES = "sizes.json"
_AUTO = re.compile(r"""\b(batch_size|images_per_shard)(["']?\s*:\s*)(["']?)auto\3(?=[\s,}\]]|$)""")
#: Stands for `auto` while a grid is parsed; whole batches of 16, and more than any grid has.
_UNKNOWN = 1 << 40


@dataclass(frozen=True, kw_only=True)
class KeptBatch:
    """The batch size of an architecture on a data set."""

    speed: Speed
    images: int


@dataclass(frozen=True, kw_only=True)
class KeptShard:
    """The shard size of one attack on an architecture."""

    architecture: str
    dataset: str
    attack: AttackSettings  #: with its batch size
    images: int
    expected_s: float


@dataclass(frozen=True, kw_only=True)
class KeptSizes:
    """What sizes.json holds."""

    batches: tuple[KeptBatch, ...] = ()
    shards: tuple[KeptShard, ...] = ()

    def of(self, attack: PlannedAttack, plan: ArchitecturePlan) -> PlannedAttack | None:
        """The attack with its sizes; None where it has none: it never ran."""
        place = (plan.name, plan.data.dataset)
        settings, shard = attack.settings, attack.images_per_shard
        if settings.batch_size == _UNKNOWN:
            batches = {(b.speed.architecture, b.speed.dataset): b.images for b in self.batches}
            if place not in batches:
                return None
            settings = dataclasses.replace(settings, batch_size=batches[place])
        if shard == _UNKNOWN:
            shards = {(s.architecture, s.dataset, s.attack): s.images for s in self.shards}
            if (*place, settings) not in shards:
                return None
            shard = shards[*place, settings]
        return dataclasses.replace(attack, settings=settings, images_per_shard=shard)


def without_auto(text: str, *, batch_size: int, images_per_shard: int) -> str:
    """A grid file's text with numbers in place of `auto`, line by line as it was."""
    numbers = {"batch_size": batch_size, "images_per_shard": images_per_shard}
    return _AUTO.sub(lambda found: f"{found[1]}{found[2]}{numbers[found[1]]}", text)


def parse_stored_grid(text: str, store: Store) -> Grid:
    """The grid of a store. Raises GridError, StoreError."""
    source = f"{store.address}/grid.yaml"
    numbered = without_auto(text, batch_size=_UNKNOWN, images_per_shard=_UNKNOWN)
    grid = parse_grid(numbered, source=source)
    if store.has_first_names:
        grid = with_first_names(grid)
    if numbered == text:
        return grid
    sizes = _read_sizes(store)

    def settled(plan: ArchitecturePlan) -> ArchitecturePlan:
        attacks = (sizes.of(attack, plan) for attack in plan.attacks)
        return dataclasses.replace(plan, attacks=tuple(a for a in attacks if a is not None))

    plans = tuple(map(settled, grid.architectures))
    return dataclasses.replace(grid, text=text, architectures=plans)


def name_kept_sizes(error: GridError, store: Store) -> GridError:
    """The refusal of a grid file that says `auto`, for a store that has sizes: with these."""
    if store.read_text(SIZES) is None:
        return error
    sizes = _read_sizes(store)
    batches = {f"{b.speed.architecture}: batch_size {b.images}": None for b in sizes.batches}
    shards: Mapping[str, None] = {
        f"{s.architecture} {s.attack.attack} ({s.attack.engine}): images_per_shard {s.images}": None
        for s in sizes.shards
    }
    text = str(error).removeprefix(f"{error.file}:{error.line}: ")
    return GridError(
        f"{text}; the results in {store.address} have {'; '.join((*batches, *shards))}",
        file=error.file,
        line=error.line,
    )


def _read_sizes(store: Store) -> KeptSizes:
    """Raises StoreError: by other sizes no result would count."""
    raw = store.read_json(SIZES)
    where = f"{store.address}/{SIZES}"
    if raw is None:
        raise StoreError(f"{where} is missing, and grid.yaml leaves its sizes to it by 'auto'")
    try:
        return from_dict(KeptSizes, raw)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StoreError(f"{where} is torn or not ours: {error}") from error

"""Cells from image rows: the arithmetic that every table rests on, by hand."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import CellCoordinates, cell_id, model_id, place_of
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.rows import (
    CELL_SCHEMA,
    MODEL_SCHEMA,
    AttackTraits,
    cell_row,
    cell_table,
    model_row,
    summarise,
)
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.image_rows import IMAGE_SCHEMA, SCHEMA_VERSION, ImageRows, read_images
from tests.fakes import fake_images, fake_model
from tests.grids import SMALL

PLAN = expand(parse_grid(SMALL, source="test"))


def columns(distance, *, label=None, clean=None, broken=None, **more):
    n = len(distance)
    distance = np.array(distance, dtype=float)
    base = {
        "label": np.zeros(n, int) if label is None else np.array(label),
        "clean_prediction": np.where(distance == 0, 1, 0) if clean is None else np.array(clean),
        "distance": distance,
        "broken": np.isfinite(distance) if broken is None else np.array(broken),
        "verified": np.ones(n, bool),
        "skipped": np.zeros(n, bool),
        "queries": np.full(n, 10),
        "distance_pixels": np.full(n, None),
        "backward_passes": np.full(n, 8),
        "zero_gradient": np.zeros(n, bool),
        "flat_passes": np.zeros(n),
        "broken_by": np.array([None] * n, dtype=object),
        "broken_first_step": np.array([None] * n, dtype=object),
        "attacked_network": np.array([None] * n, dtype=object),
    }
    return base | more


def test_robust_is_at_least_eps_away():
    """Ten images: one misclassified, one never broken, the rest 1..8; at eps 4, those at 4 to 8
    and the unbroken one stand."""
    found = summarise(columns([0, 1, 2, 3, 4, 5, 6, 7, 8, math.inf]), eps=4.0, minimum_norm=True)
    assert found["robust_accuracy"] == pytest.approx(0.6)
    assert found["clean_accuracy"] == pytest.approx(0.9)
    assert (found["n_images"], found["n_broken"]) == (10, 4)
    assert found["distance_q50"] == 5, "over the nine that were classified correctly"
    assert found["queries_mean"] == 10


@pytest.mark.parametrize(
    ("protocol", "attack", "rule", "robust"),
    [
        ("paper", "cw_l2", "distance < eps", 1.0),
        ("authors", "cw_l2", "distance < eps", 1.0),
        ("strict", "cw_l2", "distance <= eps", 0.0),
        ("mine", "cw_l2", "distance <= eps", 0.0),
        ("paper", "pgd_linf", "distance <= eps", 0.0),
        ("strict", "pgd_linf", "distance <= eps", 0.0),
    ],
)
def test_a_distance_of_exactly_eps_counts_by_the_protocol(protocol, attack, rule, robust):
    """The threat model is D <= eps; the paper's authors counted otherwise. The row says which."""
    cell = next(c for c in PLAN.cells if c.place.attack == attack)
    place = dataclasses.replace(cell.place, protocol=protocol)
    rows = []
    for shard in shards(cell):
        table = shard.table
        for name, value in (("distance", place.eps), ("broken", True), ("clean_prediction", 3)):
            at = table.schema.get_field_index(name)
            column = pa.array([value] * len(table), table.schema.field(at).type)
            table = table.set_column(at, table.schema.field(at), column)
        rows.append(dataclasses.replace(shard, table=table))
    use = {"settings": cell.attack.settings, "traits": traits(cell), "shards": rows}
    (row,) = cell_table(place, **use).to_pylist()
    assert (row["broken_at"], row["robust_accuracy"]) == (rule, robust)
    (old,) = cell_table(place, **use, unrecorded=True).to_pylist()
    assert old["broken_at"] is None
    assert old["robust_accuracy"] == (1.0 if attack == "cw_l2" else 0.0), "as schema 1 counted"


def test_a_fixed_eps_attack_counts_what_it_broke():
    broken = [True, True, False, False]
    found = summarise(
        columns([0, 0.1, math.inf, math.inf], broken=broken), eps=0.2, minimum_norm=False
    )
    assert found["robust_accuracy"] == 0.5
    assert found["distance_q50"] is None


def test_no_images_is_refused():
    with pytest.raises(ValueError, match=r"no image rows at eps 0\.3"):
        summarise(columns([]), eps=0.3, minimum_norm=False)


@given(
    st.lists(st.floats(0, 50) | st.just(math.inf), min_size=1),
    st.floats(0.01, 40),
    st.floats(0, 10),
)
def test_accuracy_never_rises_with_eps(distances, eps, more):
    low = summarise(columns(distances), eps=eps, minimum_norm=True)["robust_accuracy"]
    high = summarise(columns(distances), eps=eps + more, minimum_norm=True)["robust_accuracy"]
    assert 0 <= high <= low <= 1


def shards(cell) -> list[ImageRows]:
    out = []
    for key in cell.task_keys:
        task = PLAN.tasks[key]
        assert isinstance(task, AttackTask)
        out.append(read_images(fake_images(task)))
    return out


def traits(cell) -> AttackTraits:
    fixed = cell.place.attack == "pgd_linf"
    return AttackTraits(
        norm="linf" if fixed else "l2",
        finds="fixed-eps" if fixed else "minimum-norm",
        gradients=True,
    )


@pytest.mark.parametrize("attack", ["pgd_linf", "cw_l2"])
def test_a_cell_counts_every_shard_at_its_eps_alone(attack):
    for cell in [c for c in PLAN.cells if c.place.attack == attack][:4]:
        rows = shards(cell)
        content = cell_row(
            cell.place, settings=cell.attack.settings, traits=traits(cell), shards=rows
        )
        table = pq.read_table(io.BytesIO(content))
        assert table.schema.names == CELL_SCHEMA.names
        row = table.to_pylist()[0]
        images = [image for shard in rows for image in shard.table.to_pylist()]
        if attack == "pgd_linf":
            images = [image for image in images if image["eps"] == cell.place.eps]
            stand = [not image["broken"] for image in images]
        else:
            stand = [image["distance"] > cell.place.eps for image in images]
        assert row["n_images"] == len(stand) == 24
        assert row["robust_accuracy"] == pytest.approx(sum(stand) / 24)
        assert row["cell_id"] == cell_id(cell.place, cell.task_keys)
        assert row["seed"] == cell.place.model.seed


def flags_of(settings_change=None, **more) -> list[str]:
    cell = next(c for c in PLAN.cells if c.place.attack == "pgd_linf")
    rows = shards(cell)
    changed = []
    for shard in rows:
        table = shard.table
        for name, value in more.items():
            index = table.schema.get_field_index(name)
            field = table.schema.field(name)
            column = pa.array([value] * len(table), field.type)
            table = table.set_column(index, field, column)
        changed.append(ImageRows(task=shard.task, provenance=shard.provenance, table=table))
    settings = dataclasses.replace(cell.attack.settings, **(settings_change or {}))
    content = cell_row(cell.place, settings=settings, traits=traits(cell), shards=changed)
    return pq.read_table(io.BytesIO(content)).to_pylist()[0]["flags"]


def test_signs_of_masked_gradients_are_flagged():
    assert flags_of() == []
    assert flags_of({"outputs": "softmax"}) == ["softmax-outputs"]
    assert flags_of(zero_gradient=True) == ["zero-gradients"]
    assert flags_of(broken_first_step=True, broken=False) == ["weaker-than-first-step"]
    assert flags_of(flat_passes=1) == ["flat-loss"]
    assert flags_of(broken_by="fab-t") == []
    assert flags_of(broken_by="square", broken=False) == []
    assert flags_of(broken_by="square", broken=True) == ["gradient-free-stronger"]
    assert "unverified" in flags_of(verified=False, broken=True)


def test_a_diverged_model_has_no_accuracy_and_is_named():
    dead = columns([0, 0], clean=[-1, -1], broken=[True, True], skipped=np.ones(2, bool))
    found = summarise(dead, eps=1.0, minimum_norm=True)
    names = ("clean_accuracy", "robust_accuracy", "n_broken")
    assert [found[name] for name in names] == [None] * 3
    assert flags_of(skipped=True, clean_prediction=-1, verified=False) == ["diverged"]
    below = columns([0, 0], clean=[None, None], broken=[True, True], skipped=np.ones(2, bool))
    assert summarise(below, eps=1.0, minimum_norm=True)["robust_accuracy"] == 0


def test_accuracy_that_rises_with_eps_is_flagged_where_it_rises():
    cells = [c for c in PLAN.cells if c.place.attack == "pgd_linf"]
    cells = [c for c in cells if c.place.model == cells[0].place.model]
    low, high = sorted(cells, key=lambda c: c.place.eps)
    rows = []
    for shard in shards(low):
        eps = np.array(shard.table.column("eps"))
        broken = pa.array(eps < high.place.eps)  # at the largest eps nothing breaks
        at = shard.table.schema.get_field_index("broken")
        table = shard.table.set_column(at, shard.table.schema.field(at), broken)
        rows.append(ImageRows(task=shard.task, provenance=shard.provenance, table=table))
    found = []
    for cell in (low, high):
        content = cell_row(
            cell.place, settings=cell.attack.settings, traits=traits(cell), shards=rows
        )
        found.append("not-monotone" in pq.read_table(io.BytesIO(content)).to_pylist()[0]["flags"])
    assert found == [False, True]


def test_a_model_row_has_both_rates():
    model = next(m for m in PLAN.models if m.place.rate == 4)
    task = PLAN.tasks[model.task_key]
    table = pq.read_table(io.BytesIO(model_row(model.place, fake_model(task))))
    assert table.schema.names == MODEL_SCHEMA.names
    row = table.to_pylist()[0]
    assert (row["rate"], row["effective_rate"], row["speedup"]) == (4, 4, 4)
    assert (row["params_total"], row["params_left"]) == (200, 50)
    assert row["parent_key"] in PLAN.tasks


def test_a_diverged_model_has_no_accuracy_in_its_row():
    model = next(m for m in PLAN.models if m.place.rate == 4)
    record = fake_model(PLAN.tasks[model.task_key])
    lost = dict.fromkeys(("accuracy", "validation_accuracy", "loss"), math.nan)
    record = dataclasses.replace(
        record, result=dataclasses.replace(record.result, diverged=True, **lost)
    )
    row = pq.read_table(io.BytesIO(model_row(model.place, record))).to_pylist()[0]
    assert [row["accuracy"], row["validation_accuracy"], row["diverged"]] == [None, None, True]


def test_another_column_is_another_version_of_the_schema():
    """`tests/data/row_schemas.json`: the columns of each version. Older ones stay as they are."""
    known = json.loads((Path(__file__).parent.parent / "data/row_schemas.json").read_text())
    schemas = {"models": MODEL_SCHEMA, "cells": CELL_SCHEMA, "images": IMAGE_SCHEMA}
    columns = {
        name: {field.name: str(field.type) for field in schema} for name, schema in schemas.items()
    }
    assert list(map(int, known)) == list(range(1, SCHEMA_VERSION + 1))
    assert columns == known[str(SCHEMA_VERSION)], (
        "columns changed: raise SCHEMA_VERSION (workers/tables.py), and add its columns to "
        "tests/data/row_schemas.json"
    )
    order = {name: list(columns[name]) for name in columns}
    assert order == {name: list(known[str(SCHEMA_VERSION)][name]) for name in columns}


def test_names_tell_place_from_work():
    cell = PLAN.cells[0]
    other_work = cell_id(cell.place, ["attack-x"])
    assert place_of(other_work) == place_of(cell_id(cell.place, cell.task_keys))
    assert other_work != cell_id(cell.place, cell.task_keys)
    elsewhere = CellCoordinates(
        model=cell.place.model, protocol="mine", attack=cell.place.attack, eps=cell.place.eps
    )
    assert place_of(cell_id(elsewhere, cell.task_keys)) != place_of(other_work)
    assert model_id(cell.place.model, "a") != model_id(cell.place.model, "b")

"""`prunegrid calibrate`: on the authors' own results, and on models of known curves over Ray."""

from __future__ import annotations

import io
import math
import random
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from prunegrid.orchestrator.commands.calibrate import calibrate, command
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.report.eps_levels import PAPER_EPS
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.eps_rule import EpsLevelsError, Rule
from prunegrid.orchestrator.tuning.search_plan import dense_plan
from prunegrid.orchestrator.tuning.stored_curves import authors_curves, stored_curves
from tests.grids import with_seeds
from tests.tuning import landscape
from tests.tuning.landscape import reach

RULE = Rule()
GRID = (
    with_seeds(0)
    .replace("attack_images: 24", "attack_images: 128")
    .replace("images_per_shard: 16", "images_per_shard: 128")
)


@pytest.fixture(scope="module")
def authors(shared) -> dict:
    paths = [shared / f"reference/authors_{name}.parquet" for name in ("cnn5", "resnet18")]
    return {found.key: found for found in authors_curves(paths, RULE)}


def eps_of(steps) -> list[float]:
    return [step.eps for step in steps]


@pytest.mark.parametrize(
    "key", [("cnn5", "bb_l0"), ("cnn5", "cw_l2"), ("cnn5", "pgd_linf"), ("resnet18", "pgd_linf")]
)
def test_four_of_the_six_published_sets_are_proposed_from_the_authors_own_results(authors, key):
    found = authors[key]
    published = PAPER_EPS[key[0]][key[1]]
    assert eps_of(found.present) == pytest.approx(list(map(float, published)))
    assert eps_of(found.proposed) == pytest.approx(eps_of(found.present))


@pytest.mark.parametrize(
    ("attack", "proposed", "cost"),
    [("cw_l2", [2.5, 7.5, 12.5, 17.5], 0.175), ("bb_l0", [5, 55, 105, 155], 0.125)],
)
def test_where_they_differ_the_published_weakest_is_not_marginal(authors, attack, proposed, cost):
    """ResNet18: the published weakest costs 17.5 and 12.5 points of 80.8; the step is the same."""
    found = authors["resnet18", attack]
    clean = found.curve.clean
    assert clean - found.present[0].robust == pytest.approx(cost, abs=0.001)
    assert clean - found.proposed[0].robust <= RULE.marginal
    assert eps_of(found.proposed) == pytest.approx(proposed)
    assert np.diff(eps_of(found.proposed)) == pytest.approx(np.diff(eps_of(found.present)))
    assert found.proposed[-1].robust < RULE.most_left


def test_an_imported_store_says_the_same_as_its_files(authors, shared, tmp_path):
    from prunegrid.orchestrator.authors.authors import import_authors, read_sources

    store = Store.open_or_create(str(tmp_path / "s"))
    import_authors(read_sources([shared / "reference/authors_cnn5.parquet"]), store.files)
    found = {item.key: item for item in stored_curves(store, RULE)}
    assert {key for key in authors if key[0] == "cnn5"} == set(found)
    for key, item in found.items():
        assert eps_of(item.proposed) == pytest.approx(eps_of(authors[key].proposed))
        for ours, theirs in zip(item.proposed, authors[key].proposed, strict=True):
            assert ours.robust == pytest.approx(theirs.robust, abs=0.001)


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_fixed_eps_attacks_are_bisected_and_the_piece_is_a_grid(engine, request, tmp_path):
    if engine == "ray":
        request.getfixturevalue("ray_session")
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text(GRID)
    given = RunOptions(
        grid=grid,
        store=str(store),
        data_dir=str(tmp_path / "data"),
        engine=engine,
        runner=landscape.RUNNER,
    )
    sink = io.StringIO()
    assert calibrate(given, {}, RULE, Console(file=sink, width=200)) == 0
    (piece,) = (store / "tuning").glob("calibration-*.yaml")
    eps = yaml.safe_load(piece.read_text())["architectures"]["cnn5"]["eps"]

    distances = known_reaches(store)
    strong = np.sort(distances)[::-1][math.ceil(0.25 * len(distances)) - 1]
    nearest = 2 ** round(math.log2(255 * strong))
    assert eps["pgd_linf"] == [f"{nearest // 2**k}/255" for k in (3, 2, 1, 0)]
    looks = len(list((store / "log-aside").iterdir()))
    assert 4 <= looks <= 12, "doublings, halvings to 5 %, and the set itself"
    said = sink.getvalue()
    for text in eps["pgd_linf"]:
        left = np.mean(distances >= eval_eps(text))
        assert f"{text:>9}: {100 * left:5.1f} %" in said, "measured, not interpolated"
    merged = parse_grid(
        GRID.replace("[4/255, 8/255]", str(eps["pgd_linf"]).replace("'", "")), source="g"
    )
    (plan,) = merged.architectures
    assert max(a.eps for a in plan.attacks if a.label == "pgd_linf")[-1] == nearest / 255

    again = io.StringIO()
    assert calibrate(given, {}, RULE, Console(file=again, width=200)) == 0
    assert again.getvalue() == said[said.index("robust accuracy of the dense") :]
    assert len(list((store / "log-aside").iterdir())) == looks, "nothing is attacked twice"


def eval_eps(text: str) -> float:
    return int(text.removesuffix("/255")) / 255


def known_reaches(store: Path) -> np.ndarray:
    """Of every attacked image; 0 where the model is wrong, as the rows have it."""
    plan = dense_plan(parse_grid(GRID, source="g"), {})
    (model,) = plan.models
    opened = Store.open(str(store))
    cell = next(c for c in plan.cells if c.place.attack == "pgd_linf")
    images = [
        i for key in cell.task_keys for i in opened.image_rows(key).table["image"].to_pylist()
    ]
    out = []
    for image in dict.fromkeys(images):
        draw = random.Random(f"{model.task_key}-{image}")
        wrong, own = draw.random() < 0.05, reach(draw)
        out.append(0.0 if wrong else own)
    return np.array(out)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "expected --store S"),
        ({"from_authors": [Path("x")], "store": "s"}, "neither GRID nor --store"),
        ({"store": "s", "select": ["seed=0"]}, "--select: expected GRID"),
        ({"store": "s", "left": 0.7}, "--left: expected a number above 0 and below 0.5"),
        ({"store": "s", "marginal": 0.0}, "--marginal"),
    ],
)
def test_bad_input_is_refused(changes, words):
    with pytest.raises(UsageError) as caught:
        command(**changes)
    assert words in str(caught.value)


def test_a_store_without_cells_has_no_curves(tmp_path):
    with pytest.raises(StoreError, match="no cells yet"):
        stored_curves(Store.open_or_create(str(tmp_path / "s")), RULE)


def test_an_eps_beyond_all_pixels_is_no_eps():
    from prunegrid.orchestrator.tuning.eps_rule import Ends, eps_levels

    with pytest.raises(EpsLevelsError, match=r"even eps 0\.502 leaves 0\.55"):
        eps_levels("linf", Ends(weak=0.1, strong=1.0), lambda eps: 0.55, RULE)

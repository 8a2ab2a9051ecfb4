"""A found piece of grid file reads back as what was found."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.tuning.eps_rule import eps_as_written
from prunegrid.orchestrator.tuning.piece import attack_piece, eps_piece, training_piece
from prunegrid.orchestrator.tuning.search_plan import SearchOptions, training_studies
from prunegrid.workers.catalog import ATTACKS
from tests.grids import SMALL

PLAIN = parse_grid(SMALL, source="grid.yaml")
PROTOCOLS = parse_grid(
    SMALL
    + "protocols:\n  own: {engine: foolbox, outputs: softmax, attack_split: test}\n"
    + "  other: {engine: strict, outputs: logits, attack_split: test}\n",
    source="grid.yaml",
)


OWN_ATTACK = """
from typing import Annotated
from prunegrid.workers.user_options import Limits

def mine(
    network, images, labels, *,
    steps: Annotated[int, Limits(minimum=1, search=(1, 50), spends="steps")] = 10,
    width: Annotated[float, Limits(minimum=0)] = 1.0,
):
    return images
"""


@pytest.mark.parametrize("protocols", ["", "protocols:\n  mine: {engine: strict}\n"])
def test_options_of_an_attack_of_ones_own_are_found_where_they_stand(
    tmp_path, monkeypatch, protocols
):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "piece_attack_test.py").write_text(OWN_ATTACK)
    whole = "{run: 'piece_attack_test:mine', norm: l2, finds: minimum-norm, options: {width: 2}}"
    text = SMALL.replace("{binary_search_steps: 2, steps: 5}", whole).replace("cw_l2:", "mine:")
    grid = parse_grid(text + protocols, source="grid.yaml")
    protocol = "mine" if protocols else "strict"
    piece = attack_piece(grid, protocol=protocol, label="mine", options={"steps": 7}, comment="")
    assert options_of(pasted(grid, piece), protocol, "mine") == {"steps": 7, "width": 2.0}


def pasted(grid, piece: str):
    """The grid with the piece in its place, as a person would paste it."""

    def merge(a, b):
        if not (isinstance(a, dict) and isinstance(b, dict)):
            return b
        return {**a, **{k: merge(a.get(k), v) for k, v in b.items()}}

    both = merge(yaml.safe_load(grid.text), yaml.safe_load(piece))
    return parse_grid(yaml.safe_dump(both), source="pasted")


def options_of(grid, protocol: str, label: str) -> dict:
    (plan,) = grid.architectures
    (found,) = [a for a in plan.attacks if (a.protocol, a.label) == (protocol, label)]
    return dict(found.settings.options)


@st.composite
def settings(draw: st.DrawFn) -> tuple[str, dict]:
    entry = ATTACKS[draw(st.sampled_from(["cw_l2", "pgd_linf"]))]
    out = {}
    for option in entry.options:
        if option.search is None or not draw(st.booleans()):
            continue
        low, high = option.search
        if option.type == "int":
            out[option.name] = draw(st.integers(int(low), int(high)))
        else:
            out[option.name] = float(f"{draw(st.floats(low, high)):.2g}")
    return entry.name, out


@given(settings(), st.sampled_from([PLAIN, PROTOCOLS]))
def test_settings_read_back(found, grid):
    label, options = found
    protocol = "own" if grid is PROTOCOLS else grid.architectures[0].attacks[0].protocol
    piece = attack_piece(grid, protocol=protocol, label=label, options=options, comment="a\nb: [")
    assert piece.startswith("# a\n# b: [\n")
    after = options_of(pasted(grid, piece), protocol, label)
    assert {name: after[name] for name in options} == options
    before = options_of(grid, protocol, label)
    assert {n: v for n, v in after.items() if n not in options} == {
        n: v for n, v in before.items() if n not in options
    }
    if grid is PROTOCOLS:
        assert options_of(pasted(grid, piece), "other", label) == options_of(grid, "other", label)


def test_a_name_that_looks_like_a_date_is_a_name():
    """And not even a date that there is."""
    grid = parse_grid(SMALL.replace("name: small", "name: 2001-13-45"), source="test")
    piece = attack_piece(grid, protocol="strict", label="cw_l2", options={"steps": 7}, comment="")
    assert "steps: 7" in piece


@pytest.mark.parametrize("lr", [1e7, 1e-4, 1e16, 5e-324, 0.1 + 0.2, 1 / 3])
def test_numbers_that_yaml_reads_as_text_are_written_so_that_it_does_not(lr):
    from prunegrid.orchestrator.tuning.piece import dumped

    read = yaml.safe_load(dumped({"lr": lr}))["lr"]
    assert isinstance(read, int | float)
    assert read == pytest.approx(lr, rel=1e-11)


def test_a_setting_out_of_its_bounds_is_no_piece():
    with pytest.raises(GridError, match="steps"):
        attack_piece(PLAIN, protocol="strict", label="cw_l2", options={"steps": 0}, comment="")


@given(
    sets=st.lists(
        st.integers(10**3, 10**6),
        min_size=4,
        max_size=4,
        unique_by=lambda n: eps_as_written(n / 10**6, "linf"),  # 0.999999 is written as 1
    ),
    other=st.lists(st.integers(1, 300), min_size=4, max_size=4, unique=True),
)
def test_eps_read_back(sets, other):
    linf_eps = [n / 10**6 for n in sorted(sets)]
    linf = tuple(eps_as_written(eps, "linf") for eps in linf_eps)
    l2 = tuple(eps_as_written(eps, "l2") for eps in sorted(other))
    piece = eps_piece(PLAIN, {"cnn5": {"pgd_linf": linf, "cw_l2": l2}}, "c")
    (plan,) = pasted(PLAIN, piece).architectures
    eps = {attack.label: attack.eps for attack in plan.attacks}
    assert eps["pgd_linf"] == pytest.approx(linf_eps, rel=1e-5)
    assert eps["cw_l2"] == pytest.approx(sorted(other))


def test_training_reads_back():
    (study,) = training_studies(PLAIN, SearchOptions(trials=6))
    for trial in range(6):
        wanted = study.training(study.options(trial))
        names = ["learning_rate", "early_stopping_patience"]
        piece = training_piece(PLAIN, "cnn5", wanted, names, "c")
        (plan,) = pasted(PLAIN, piece).architectures
        assert plan.variants[0].training == wanted
    schedule = dataclasses.replace(study.base, lr_factor=0.25, lr_patience=7)
    piece = training_piece(PLAIN, "cnn5", schedule, ["lr_factor"], "c")
    (plan,) = pasted(PLAIN, piece).architectures
    assert plan.variants[0].training == schedule

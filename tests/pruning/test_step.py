"""Pruning by counts: exact, monotone, whole structures, and blind where it must be blind."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.workers.catalog import CONTROL, METHODS
from prunegrid.workers.method_entry import MethodEntry, pattern_of
from prunegrid.workers.pruning.counts import KernelLayer, layer_counts
from prunegrid.workers.pruning.step import (
    PruneCountError,
    ScoreError,
    check_counts,
    prune_step,
    survivors,
)
from prunegrid.workers.pruning.structures import grouped, pruned_layers, spread, ungrouped, units
from prunegrid.workers.user_code import UserCode

RATES = (2, 4, 8, 16, 32, 64)


class Slopes:
    """A network whose gradients are drawn, and do not depend on the masks."""

    model = None
    lost = False

    def __init__(self, weights):
        self._shapes = {name: w.shape for name, w in weights.items()}

    def _drawn(self, seed):
        rng = np.random.default_rng(seed)
        return {name: rng.normal(size=shape) for name, shape in self._shapes.items()}

    def kernel(self, layer):
        raise NotImplementedError

    def batches(self, count, size):
        raise NotImplementedError

    def gradients(self, batches, batch_size):
        return self._drawn(batches)

    def squared_gradients(self, images):
        return {name: np.square(each) for name, each in self._drawn(images).items()}


def rates_of(entry: MethodEntry) -> tuple[float, ...]:
    return RATES if entry.rate is None else (entry.rate,)


@st.composite
def networks(draw):
    """Weights, kinds: one to three convolutions, perhaps a depthwise one, and up to two dense
    layers, of random shapes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights, kinds = {}, {}
    for number in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.integers(1, n)) for n in (5, 5, 12, 20))
        weights[f"conv{number}"], kinds[f"conv{number}"] = rng.normal(size=shape), "conv"
    if draw(st.booleans()):
        shape = tuple(draw(st.integers(1, n)) for n in (5, 5, 12, 2))
        weights["depthwise"], kinds["depthwise"] = rng.normal(size=shape), "depthwise"
    for number in range(draw(st.integers(0, 2))):
        shape = tuple(draw(st.integers(1, 30)) for _ in range(2))
        weights[f"dense{number}"], kinds[f"dense{number}"] = rng.normal(size=shape), "dense"
    if draw(st.booleans()):  # ties: many equal weights
        weights = {name: np.round(w) for name, w in weights.items()}
    return {name: w.astype(np.float32) for name, w in weights.items()}, kinds


def full(weights):
    return {name: np.ones(w.shape, dtype=bool) for name, w in weights.items()}


def chain(weights, kinds, method, *, seed=0, rates=None):
    """[(rate, masks)] along a chain, the pruned weights set to 0 as fine-tuning leaves them."""
    masks, parent, out = full(weights), 1.0, []
    entry = METHODS[method] if isinstance(method, str) else method
    for rate in rates or rates_of(entry):
        masks = prune_step(
            {n: w * masks[n] for n, w in weights.items()},
            masks,
            kinds,
            method=entry,
            rate=rate,
            parent_rate=parent,
            seed=seed,
            network=Slopes(weights),
        )
        parent = rate
        out.append((rate, masks))
    return out


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25, deadline=None)
@given(network=networks())
def test_counts_are_exact_masks_shrink_and_structures_go_whole(method, network):
    weights, kinds = network
    entry = METHODS[method]
    unit = pruned_layers(entry.structure, kinds, {n: w.shape for n, w in weights.items()})
    touched = list(unit)
    previous = full(weights)
    for rate, masks in chain(weights, kinds, method):
        left, total = {}, {}
        for name in touched:
            parts = units(masks[name], unit[name])
            assert (parts.any(axis=1) == parts.all(axis=1)).all(), "a unit is half pruned"
            left[name], total[name] = int(parts.any(axis=1).sum()), len(parts)
            if pattern := pattern_of(entry.structure):
                rows = grouped(masks[name], weights[name].shape, pattern[1])
                assert (rows.sum(axis=1) == pattern[0]).all()
        if entry.scope == "local":
            assert left == {name: survivors(total[name], rate) for name in touched}
        else:
            assert sum(left.values()) == survivors(sum(total.values()), rate)
        for name, mask in masks.items():
            assert not (mask & ~previous[name]).any(), "a pruned weight came back"
            if name not in touched:
                assert mask.all(), "a layer without such units was touched"
        previous = masks


def sorted_out(weights, masks, kinds, entry, rate):
    """Magnitude pruning by its definition: every unit of every layer in one stable sort."""
    unit = pruned_layers(entry.structure, kinds, {n: w.shape for n, w in weights.items()})
    layers = list(unit)
    ranked = []  # (score, layer, unit) of the living
    for name in layers:
        parts = np.abs(units(weights[name], unit[name]).astype(np.float64))
        scores = parts.mean(axis=1) if entry.scope == "global" else parts.sum(axis=1)
        living = units(masks[name], unit[name]).any(axis=1)
        ranked += [(scores[unit], name, unit) for unit in np.flatnonzero(living)]
    groups = [layers] if entry.scope == "global" else [[name] for name in layers]
    out = {name: mask.copy() for name, mask in masks.items()}
    for group in groups:
        total = sum(len(units(masks[name], unit[name])) for name in group)
        mine = sorted((item for item in ranked if item[1] in group), key=lambda item: -item[0])
        for name in group:
            keep = np.zeros(len(units(masks[name], unit[name])), dtype=bool)
            kept = [unit for _, layer, unit in mine[: survivors(total, rate)] if layer == name]
            keep[kept] = True
            out[name] &= spread(keep, masks[name].shape, unit[name])
    return out


@pytest.mark.parametrize("structure", ["unstructured", "kernel", "filter"])
@pytest.mark.parametrize("scope", ["local", "global"])
@settings(max_examples=15, deadline=None)
@given(network=networks())
def test_what_is_kept_is_what_a_plain_sort_keeps(scope, structure, network):
    """Ties too: among equal scores the first stay."""
    weights, kinds = network
    entry = METHODS[f"magnitude-{scope}-{structure}"]
    masks = full(weights)
    for rate, found in chain(weights, kinds, entry.name, rates=(2, 8)):
        masks = sorted_out({n: w * masks[n] for n, w in weights.items()}, masks, kinds, entry, rate)
        for name in weights:
            np.testing.assert_array_equal(found[name], masks[name])


@pytest.mark.parametrize(("n", "rate", "left"), [(6, 16, 0), (16, 32, 0), (96, 64, 2), (5, 2, 2)])
def test_survivors_are_rounded_halves_to_even_and_may_be_none(n, rate, left):
    assert survivors(n, rate) == left


@settings(max_examples=50, deadline=None)
@given(network=networks(), seed=st.integers(0, 100))
def test_random_methods_do_not_look_at_weights(network, seed):
    weights, kinds = network
    others = {name: w[..., ::-1] * 3 + 1 for name, w in weights.items()}
    for structure in ("unstructured", "kernel", "filter"):
        method = f"random-local-{structure}"
        one = chain(weights, kinds, method, seed=seed)[-1][1]
        two = chain(others, kinds, method, seed=seed)[-1][1]
        assert all((one[name] == two[name]).all() for name in weights)


@settings(max_examples=30, deadline=None)
@given(network=networks(), seed=st.integers(0, 100))
def test_matched_random_has_the_layers_counts_of_magnitude_global(network, seed):
    weights, kinds = network
    for structure in ("unstructured", "kernel", "filter"):
        ours = chain(weights, kinds, f"random-matched-{structure}", seed=seed, rates=(4,))[0][1]
        theirs = chain(weights, kinds, f"magnitude-global-{structure}", rates=(4,))[0][1]
        assert {n: int(m.sum()) for n, m in ours.items()} == {
            n: int(m.sum()) for n, m in theirs.items()
        }


def test_a_step_depends_on_its_arguments_alone():
    rng = np.random.default_rng(0)
    weights = {"conv0": rng.normal(size=(3, 3, 4, 8))}
    for method in METHODS:
        a = chain(weights, {"conv0": "conv"}, method, seed=3)[-1][1]["conv0"]
        b = chain(weights, {"conv0": "conv"}, method, seed=3)[-1][1]["conv0"]
        assert (a == b).all()
    one = chain(weights, {"conv0": "conv"}, "random-local-unstructured", seed=1)[0][1]["conv0"]
    two = chain(weights, {"conv0": "conv"}, "random-local-unstructured", seed=2)[0][1]["conv0"]
    assert (one != two).any(), "another seed draws others"


def test_layers_and_rates_draw_independently():
    weights = {"a": np.ones((64, 64)), "b": np.ones((64, 64))}
    kinds = dict.fromkeys(weights, "dense")
    method = "random-local-unstructured"
    (_, two), (_, three) = (chain(weights, kinds, method, rates=(rate,))[0] for rate in (2, 3))
    assert 0.4 < (two["a"] == two["b"]).mean() < 0.6, "halves drawn apart agree on about a half"
    assert 0.4 < two["a"][three["a"]].mean() < 0.6, "of a third drawn apart, half is among them"


@pytest.mark.parametrize("structure", ["unstructured", "kernel", "filter"])
def test_global_scores_compare_layers_of_different_sizes(structure):
    """Equally distributed weights: each layer keeps about its share, whatever its kernels'
    size; one scaled up keeps more."""
    rng = np.random.default_rng(1)
    weights = {"a": rng.normal(size=(1, 1, 40, 40)), "b": rng.normal(size=(5, 5, 40, 40))}
    kinds = {"a": "conv", "b": "conv"}
    method = f"magnitude-global-{structure}"
    masks = chain(weights, kinds, method, rates=(2,))[0][1]
    scaled = chain({"a": weights["a"] * 10, "b": weights["b"]}, kinds, method, rates=(2,))[0][1]
    assert scaled["a"].mean() > 0.85
    assert masks["a"].mean() < 0.75
    if structure == "unstructured":
        assert abs(masks["a"].mean() - masks["b"].mean()) < 0.05


def test_magnitude_keeps_the_largest():
    weights = {"d": np.array([[0.1, -5.0], [2.0, 0.3]])}
    masks = chain(weights, {"d": "dense"}, "magnitude-local-unstructured", rates=(2,))[0][1]
    assert masks["d"].tolist() == [[False, True], [True, False]]


def test_a_rate_that_does_not_grow_is_refused():
    weights = {"d": np.ones((4, 4))}
    with pytest.raises(ValueError, match="more than the parent's 4"):
        prune_step(
            weights,
            full(weights),
            {"d": "dense"},
            method=METHODS["random-local-unstructured"],
            rate=4,
            parent_rate=4,
            seed=0,
        )


def test_wrong_counts_fail_loudly():
    old = {"c": np.ones((2, 2, 1, 4), dtype=bool)}
    new = {"c": spread(np.array([True, False, False, False]), (2, 2, 1, 4), "filter")}
    check_counts(new, old, {"c": "filter"}, {"c": 1})
    with pytest.raises(PruneCountError, match="c: expected 2 units left, got 1: wrong count") as e:
        check_counts(new, old, {"c": "filter"}, {"c": 2})
    again = pickle.loads(pickle.dumps(e.value))
    assert (again.layer, again.expected, again.got, str(again)) == ("c", 2, 1, str(e.value))
    half = {"c": new["c"].copy()}
    half["c"][0, 0, 0, 0] = False
    with pytest.raises(PruneCountError, match="half pruned"):
        check_counts(half, old, {"c": "filter"}, {"c": 1})
    with pytest.raises(PruneCountError, match="came back"):
        check_counts(old, new, {"c": "filter"}, {"c": 4})


@pytest.mark.parametrize("method", [n for n, e in METHODS.items() if n != CONTROL and not e.rate])
def test_masks_of_another_rate_than_the_parents_fail_loudly(method):
    """Two of 64 units alive can't become the 32 that rate 2 keeps."""
    mask = spread(np.arange(64) < 2, (1, 1, 1, 64), "filter")
    with pytest.raises(PruneCountError, match="expected 32 units left, got 2: the parent has too"):
        prune_step(
            {"c": np.ones((1, 1, 1, 64))},
            {"c": mask},
            {"c": "conv"},
            method=METHODS[method],
            rate=2,
            parent_rate=1,
            seed=0,
            network=Slopes({"c": mask}),
        )


def smallest(scoring):
    return {name: -np.abs(w) for name, w in scoring.weights.items()}


def by_filter(scoring):
    return {name: np.arange(scoring.count(name)) for name in scoring.weights}


def no_mapping(scoring):
    return 1.0


def no_layer(scoring):
    return {}


def another_shape(scoring):
    return {name: np.ones(3) for name in scoring.weights}


def not_finite(scoring):
    return {name: np.where(w > 0, w, np.nan) for name, w in scoring.weights.items()}


def failing(scoring):
    raise KeyError("conv9")


def own(function, *, scope="local", structure="unstructured") -> MethodEntry:
    """A method with a score of this module."""
    score = UserCode(target=f"tests.pruning.test_step:{function.__name__}")
    return MethodEntry(criterion="mine", score=score, scope=scope, structure=structure)


def test_a_new_score_ranks_globally_by_its_own_values():
    weights = {"big": np.full((4, 4), 9.0), "small": np.full((4, 4), 0.1)}
    kinds = dict.fromkeys(weights, "dense")
    ((_, masks),) = chain(weights, kinds, own(smallest, scope="global"), rates=(2,))
    assert (masks["big"].sum(), masks["small"].sum()) == (0, 16)


def test_a_score_may_rank_units_themselves():
    weights = {"c": np.ones((2, 2, 3, 8))}
    ((_, masks),) = chain(weights, {"c": "conv"}, own(by_filter, structure="filter"), rates=(4,))
    assert masks["c"].all(axis=(0, 1, 2)).tolist() == [False] * 6 + [True] * 2


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_mapping, "test_step:no_mapping: expected a mapping of layers to arrays, got float"),
        (no_layer, "expected a score of each layer, got none of d"),
        (another_shape, r"scores of d for its weights \(4, 4\) or its 16 units, got \(3,\)"),
        (not_finite, "expected finite scores of d, got 8 of 16 that are NaN or infinite"),
        (failing, r"test_step:failing: KeyError: 'conv9' \(test_step.py:\d+\)"),
    ],
)
def test_a_score_that_is_none_is_refused(function, words):
    weights = {"d": np.arange(16.0).reshape(4, 4) - 7.5}
    with pytest.raises(ScoreError, match=words):
        chain(weights, {"d": "dense"}, own(function), rates=(2,))


def test_a_lost_network_is_pruned_all_the_same(monkeypatch):
    monkeypatch.setattr(Slopes, "lost", True)
    weights = {"d": np.arange(16.0).reshape(4, 4) - 7.5}
    ((_, masks),) = chain(weights, {"d": "dense"}, own(not_finite), rates=(2,))
    assert masks["d"].sum() == 8


def test_scores_by_hand():
    """taylor: |g w|; obd: h w w / 2; l2: w w; summed over a filter, or their mean across layers."""
    rng = np.random.default_rng(5)
    weights = {"c": rng.normal(size=(3, 3, 2, 4)), "e": rng.normal(size=(1, 1, 4, 6))}
    kinds = dict.fromkeys(weights, "conv")
    slopes, squares = Slopes(weights).gradients(8, 64), Slopes(weights).squared_gradients(256)
    by_hand = {
        "taylor": {n: np.abs(slopes[n] * w) for n, w in weights.items()},
        "obd": {n: squares[n] * w * w / 2 for n, w in weights.items()},
        "l2": {n: w * w for n, w in weights.items()},
    }
    for score, values in by_hand.items():
        means = {n: v.mean(axis=(0, 1, 2)) for n, v in values.items()}
        ((_, masks),) = chain(weights, kinds, f"{score}-local-filter", rates=(2,))
        for name, mean in means.items():
            best = np.argsort(-mean)[: len(mean) // 2]
            assert set(np.flatnonzero(masks[name].any(axis=(0, 1, 2)))) == set(best)
        ((_, masks),) = chain(weights, kinds, f"{score}-global-filter", rates=(2,))
        ranked = sorted(
            ((v, n, i) for n, m in means.items() for i, v in enumerate(m)), reverse=True
        )
        for name in weights:
            kept = {i for _, n, i in ranked[:5] if n == name}
            assert set(np.flatnonzero(masks[name].any(axis=(0, 1, 2)))) == kept


def test_two_of_four_along_the_inputs():
    weights = {"d": np.array([[1.0, 9], [2, 8], [3, 7], [4, 6]]), "odd": np.ones((6, 2))}
    ((_, masks),) = chain(weights, dict.fromkeys(weights, "dense"), "magnitude-local-2:4")
    assert masks["d"].T.tolist() == [[False, False, True, True], [True, True, False, False]]
    assert masks["odd"].all(), "6 inputs are no multiple of 4: left alone"


@pytest.mark.parametrize("shape", [(3, 2, 8, 5), (12, 7)])
def test_groups_go_there_and_back(shape):
    array = np.arange(np.prod(shape))
    groups = grouped(array, shape, 4)
    np.testing.assert_array_equal(ungrouped(groups, shape), array)
    steps = np.diff(groups, axis=1)
    assert (steps == shape[-1]).all(), "neighbours along the inputs"


def test_structured_methods_have_nothing_to_do_without_convolutions():
    weights = {"d": np.ones((4, 4))}
    for structure in ("kernel", "filter"):
        for method in (name for name in METHODS if name.endswith(structure)):
            assert chain(weights, {"d": "dense"}, method)[-1][1]["d"].all()


def test_the_control_prunes_nothing():
    rng = np.random.default_rng(0)
    weights = {"c": rng.normal(size=(3, 3, 4, 8)), "d": rng.normal(size=(8, 4))}
    for _, masks in chain(weights, {"c": "conv", "d": "dense"}, CONTROL):
        assert all(mask.all() for mask in masks.values())


def test_a_depthwise_filter_is_the_kernel_of_one_channel():
    """Not the kernels of all channels, as the last axis of its weights alone would have it."""
    weights = {"d": np.arange(1, 9, dtype=float).reshape(1, 1, 8, 1) * np.ones((3, 3, 1, 1))}
    masks = chain(weights, {"d": "depthwise"}, "magnitude-local-filter", rates=(4,))[0][1]
    kept = masks["d"].reshape(9, 8)
    assert kept.all(axis=0).tolist() == [False] * 6 + [True] * 2
    assert (kept.any(axis=0) == kept.all(axis=0)).all()


def _resnet18_blocks():
    before = 64
    for width in (64, 64, 128, 128, 256, 256, 512, 512):
        yield (3, 3, before, width)
        yield (3, 3, width, width)
        before = width


SHAPES = {
    "cnn5": [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10)],
    "resnet18": [(7, 7, 3, 64), *_resnet18_blocks(), (512, 10)],
}


@pytest.mark.parametrize("architecture", SHAPES)
def test_counts_are_those_of_the_authors_raw_results(architecture, shared):
    """Where the counts do not depend on trained weights; the authors' local random unstructured
    masks had other axes than their weights, so those of theirs are off."""
    raw = pd.read_parquet(shared / f"reference/authors_{architecture}.parquet")
    shapes = {str(number): shape for number, shape in enumerate(SHAPES[architecture])}
    weights = {
        name: np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    kinds = {name: "conv" if len(shape) == 4 else "dense" for name, shape in shapes.items()}
    comparable = {
        "magnitude-local-unstructured",
        "magnitude-global-unstructured",
        "magnitude-local-kernel",
        "random-local-kernel",
        "magnitude-local-filter",
        "random-local-filter",
    }
    for method in comparable:
        criterion, scope, structure = method.split("-")
        theirs = raw[
            (raw["criterion"] == criterion)
            & (raw["scope"] == scope)
            & (raw["structure"] == structure)
        ]
        ours = {
            rate: sum(int(np.count_nonzero(mask)) for mask in masks.values())
            for rate, masks in chain(weights, kinds, method, rates=(2, 16, 64))
        }
        for rate, left in ours.items():
            found = set(theirs.loc[theirs["compression_rate"] == rate, "params_left"])
            assert found == {left}, (method, rate)


def test_counts_and_multiply_adds():
    dense = KernelLayer(
        name="c", path="c/kernel", kind="conv", shape=(3, 3, 1, 4), positions=100, prunable=True
    )
    projection = dataclasses.replace(
        dense, name="p", shape=(1, 1, 4, 8), positions=25, prunable=False
    )
    mask = np.zeros((3, 3, 1, 4), dtype=bool)
    mask[..., 0] = True
    conv, project = layer_counts([dense, projection], {"c": mask})
    assert (conv.total, conv.left, conv.flops_total, conv.flops_left) == (36, 9, 3600, 900)
    assert (project.left, project.flops_left, project.prunable) == (32, 800, False)

"""What is ours in `strict` is no weaker than Foolbox with the same settings, and asks the model
less; the papers' algorithms are what Foolbox runs, but for each image."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.catalog import METHODS
from tests.attacks.conftest import settings

pytestmark = pytest.mark.tf

COUNT = 32
PAPER = [name for name, entry in METHODS.items() if entry.in_paper]
#: Ours, Foolbox's, the options of both, and eps.
CASES = {
    "pgd_coarse_linf": ("pgd_linf", {"steps": 40}, tuple(k / 255 for k in (4, 8, 16, 32))),
    "cw_walk_l2": ("cw_l2", {"binary_search_steps": 6, "steps": 40}, (1, 2, 3, 4)),
    "bb_exchange_l0": ("bb_l0", {"steps": 150}, (3, 6, 9, 12)),
}
#: Foolbox's passes of an image in a row, with the paper's settings.
PASSES = {"pgd_coarse_linf": 41, "bb_exchange_l0": 533}


@pytest.fixture(scope="module")
def chain(cnn5):
    """The nine prunings of CNN5 at rate 2 without fine-tuning; the model comes back as it was."""
    from prunegrid.workers.models.base import get_weights, set_weights
    from prunegrid.workers.models.kernels import prunable
    from prunegrid.workers.pruning.step import prune_step

    dense = get_weights(cnn5)
    layers = prunable(cnn5)
    out = {}
    for name in PAPER:
        masks = prune_step(
            {layer.name: dense[layer.path] for layer in layers},
            {layer.name: np.ones(layer.shape, bool) for layer in layers},
            {layer.name: layer.kind for layer in layers},
            method=METHODS[name], rate=2.0, parent_rate=1.0, seed=0,
        )  # fmt: skip
        pruned = dict(dense)
        for layer in layers:
            pruned[layer.path] = dense[layer.path] * masks[layer.name]
        out[name] = pruned
    yield out
    set_weights(cnn5, dense)


@pytest.mark.parametrize("method", PAPER)
def test_never_weaker_on_pruned_networks(shard, cnn5, chain, method):
    from prunegrid.workers.models.base import set_weights

    set_weights(cnn5, chain[method])
    for name, (rival, options, eps) in CASES.items():
        given = eps if name == "pgd_coarse_linf" else ()
        ours, theirs = (
            shard(
                cnn5, settings(attack, engine, options=options, eps=given, batch_size=32), 0, COUNT
            )
            for attack, engine in ((name, "strict"), (rival, "foolbox"))
        )
        mine, other = (np.array(c["distance"]).reshape(-1, COUNT) for c in (ours, theirs))
        if given:
            stand, theirs_stand = (
                (~np.array(c["broken"]).reshape(-1, COUNT)).sum(axis=1) for c in (ours, theirs)
            )
        else:
            assert np.median(mine) <= np.median(other) * (1 + 1e-6), name
            stand, theirs_stand = ([(d >= e).sum() for e in eps] for d in (mine, other))
        assert (np.array(stand) <= np.array(theirs_stand)).all(), (name, stand, theirs_stand)
        if name in PASSES:
            own = np.mean(ours["queries"]) - 2  # without clean prediction and second look
            assert own <= PASSES[name] / 3, name
        if name == "bb_exchange_l0":
            assert max(ours["queries"]) <= PASSES[name] / 3


def test_bb_with_exchanges_takes_a_third_of_the_papers_passes(shard, cnn5):
    """Both with the paper's 500 steps."""
    ours, theirs = (
        shard(cnn5, settings(attack, engine, batch_size=32), 0, COUNT)
        for attack, engine in (("bb_exchange_l0", "strict"), ("bb_l0", "foolbox"))
    )
    mine, other = (np.array(c["distance"]) for c in (ours, theirs))
    assert np.median(mine) <= np.median(other)
    for eps in CASES["bb_exchange_l0"][-1]:
        assert (mine >= eps).sum() <= (other >= eps).sum(), eps
    assert max(ours["queries"]) <= PASSES["bb_exchange_l0"] / 3


def test_cw_with_fewer_and_smaller_steps_beats_the_papers(shard, cnn5):
    """On logits; image by image but for one that the paper's large steps throw elsewhere."""
    paper = settings("cw_l2", "foolbox", options={"steps": 60}, batch_size=32)
    better = settings(
        "cw_l2", "strict", batch_size=32,
        options={"binary_search_steps": 6, "steps": 200, "stepsize": 0.05, "initial_const": 1.0},
    )  # fmt: skip
    theirs, ours = (np.array(shard(cnn5, use, 0, COUNT)["distance"]) for use in (paper, better))
    assert (ours > theirs * (1 + 1e-6)).sum() <= 1
    assert ours.mean() < 0.95 * theirs.mean()


def test_pgd_is_foolboxs_and_stops_at_what_is_broken(shard, cnn5):
    """From one start the way is the same: what its last image breaks is broken, and an image that
    stands takes every step."""
    options = {"steps": 12, "random_start": False}
    eps = (16 / 255, 32 / 255)
    ours, theirs = (
        shard(cnn5, settings("pgd_linf", engine, options=options, eps=eps, batch_size=32), 0, COUNT)
        for engine in ("strict", "foolbox")
    )
    mine, other = (np.array(c["broken"]) for c in (ours, theirs))
    assert mine.any()
    assert not mine.all()
    assert (mine >= other).all()
    assert (mine & ~other).sum() <= 1, "broken on the way, and not in the end"
    stands = ~mine
    queries = np.array(ours["queries"])
    assert set(queries[stands]) == {options["steps"] + 1 + 2}
    assert queries[mine & (np.array(ours["distance"]) > 0)].max() < options["steps"] + 1 + 2


def test_cw_is_foolboxs_on_one_image(shard, cnn5):
    """But for the last bits of another compute shape, which Adam amplifies."""
    options = {
        "binary_search_steps": 3, "steps": 40, "stepsize": 0.1, "initial_const": 1.0,
        "abort_early": False,
    }  # fmt: skip
    ours = shard(cnn5, settings("cw_l2", "strict", options=options), 0, 6)
    for i in range(6):
        alone = settings("cw_l2", "foolbox", options=options, batch_size=1)
        theirs = shard(cnn5, alone, i, i + 1)
        np.testing.assert_allclose(ours["distance"][i], theirs["distance"][0], rtol=0.02)
    attacked = np.array(ours["distance"]) > 0
    assert set(np.array(ours["queries"])[attacked]) == {3 * 40 + 2}


def test_bb_goes_every_step_from_one_start(shard, cnn5):
    options = {"binary_search_steps": 5, "steps": 20, "lr_num_decay": 2}
    found = shard(cnn5, settings("bb_l0", "strict", options=options), 0, 16)
    attacked = np.array(found["distance"]) > 0
    assert set(np.array(found["queries"])[attacked]) == {5 + 20 + 1 + 2}
    assert np.isfinite(found["distance"]).all()

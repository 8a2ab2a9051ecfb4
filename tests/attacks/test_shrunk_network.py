"""Attacks on the network without its dead channels: equal to those on the stored one where both
agree, and redone there where they do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from prunegrid.workers.context import Interrupted
from tests.attacks.conftest import QUICK, quick, settings
from tests.attacks.test_shards import COLUMNS, STRICT, rows

pytestmark = pytest.mark.tf

PGD = settings(
    "pgd_linf", "strict", eps=(16 / 255, 48 / 255), options={"steps": 15}, network="shrunk"
)
CW = settings("cw_l2", "strict", options={"steps": 30, "binary_search_steps": 3}, network="shrunk")
#: What an image's row says of the attack itself, not of its cost.
FOUND = [name for name in COLUMNS if name not in ("queries", "compute_batch")]


@pytest.fixture(scope="module")
def pruned(cnn5, images) -> Any:
    """CNN5 with a third of its filters, fine-tuned a little so that it classifies."""
    import keras

    from prunegrid.workers.catalog import METHODS
    from prunegrid.workers.models.base import get_weights, set_weights
    from prunegrid.workers.models.kernels import prunable
    from prunegrid.workers.pruning.step import prune_step

    model = keras.models.clone_model(cnn5)
    weights, layers = get_weights(cnn5), prunable(cnn5)
    masks = prune_step(
        {layer.name: weights[layer.path] for layer in layers},
        {layer.name: np.ones(layer.shape, bool) for layer in layers},
        {layer.name: layer.kind for layer in layers},
        method=METHODS["magnitude-local-filter"],
        rate=3,
        parent_rate=1,
        seed=0,
    )
    set_weights(model, weights)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    for start in range(0, 2000, 200):
        batch = slice(start, start + 200)
        model.train_on_batch(images.train[batch], images.train_labels[batch])
        weights = get_weights(model)
        for layer in layers:
            weights[layer.path] = np.where(masks[layer.name], weights[layer.path], np.float32(0))
        set_weights(model, weights)
    return model


@pytest.fixture(scope="module")
def small(pruned) -> Any:
    from prunegrid.workers.export.shrink import shrink

    small = shrink(pruned)
    assert small.count_params() < pruned.count_params() / 2
    return small


def dented(small: Any) -> Any:
    """Another network than the pruned one by a slope at the corners, which are black in all clean
    images: the logits there are the same, and the attacks' way out is a wrong one."""
    import keras

    layers = keras.layers
    corners = layers.Cropping2D(((0, 26), (0, 26)), name="corners")(small.inputs[0])
    slope = layers.Dense(10, use_bias=False, name="slope")
    steep = slope(layers.Flatten(name="flat_corners")(corners))
    logits = layers.Add(name="dented")([small.outputs[0], steep])
    made = keras.Model(small.inputs[0], logits)
    slope.kernel.assign(np.tile(np.linspace(-60, 60, 10, dtype=np.float32), (4, 1)))
    return made


def turned(small: Any) -> Any:
    """The classes' logits in another order: nothing agrees."""
    import keras

    out = keras.layers.Dense(10, use_bias=False)
    made = keras.Model(small.inputs[0], out(small.outputs[0]))
    out.kernel.assign(np.roll(np.eye(10, dtype=np.float32), 1, axis=0))
    return made


@pytest.mark.parametrize("attack", STRICT)
def test_every_strict_attack_runs_on_it_and_is_verified(shard, pruned, small, attack):
    """AttackLied, which fails the test, is what a claim would be that the stored network does not
    confirm."""
    use = quick(attack, "strict", network="shrunk")
    one, other = (rows_of(shard(pruned, use, 0, 12, shrunk=s)) for s in (None, small))
    attacked = one["clean_prediction"] == one["label"]
    assert set(one["attacked_network"][attacked]) == {"stored"}
    assert "shrunk" in other["attacked_network"][attacked]
    assert set(other["attacked_network"][attacked]) <= {"shrunk", "redone"}
    assert set(other["attacked_network"][~attacked]) <= {None}
    for name in ("image", "eps", "label", "clean_prediction", "zero_gradient"):
        assert (one[name] == other[name]).all(), name
    assert (other["verified"] | ~other["broken"]).all()
    assert np.isfinite(other["distance"]).mean() == pytest.approx(
        np.isfinite(one["distance"]).mean(), abs=0.1
    )


def rows_of(columns: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in columns.items()}


@pytest.mark.parametrize("use", [PGD, CW], ids=lambda use: use.attack)
def test_its_results_are_those_of_the_stored_network_but_for_rounding(shard, pruned, small, use):
    one, other = (rows_of(shard(pruned, use, 0, 40, shrunk=s)) for s in (None, small))
    assert (one["broken"] == other["broken"]).all()
    found = np.isfinite(one["distance"])
    assert found.mean() > 0.3
    np.testing.assert_allclose(other["distance"][found], one["distance"][found], rtol=0.02)
    ran = other["attacked_network"] == "shrunk"
    assert ran.mean() > 0.8
    # On both: the clean image, and what was found.
    assert (other["queries"][ran] >= 4).all()


@pytest.mark.parametrize("use", [PGD, CW], ids=lambda use: use.attack)
@pytest.mark.parametrize("fault", [dented, turned])
def test_where_the_two_differ_the_row_is_the_stored_network_s(shard, pruned, small, use, fault):
    stored = shard(pruned, use, 0, 40)
    got = shard(pruned, use, 0, 40, shrunk=fault(small))
    again = np.array(got["attacked_network"]) == "redone"
    attacked = np.array(stored["clean_prediction"]) == np.array(stored["label"])
    least = 0.3 if fault is dented else 1.0
    assert again.sum() >= least * attacked.sum(), "the fault would prove nothing"
    assert (~again | attacked).all()
    for name in FOUND:
        one, other = (np.array(columns[name], object)[again] for columns in (stored, got))
        assert (one == other).all(), name
    # What is not redone holds on the stored network, as attack_shard verified.
    more = np.array(got["queries"])[again] > np.array(stored["queries"])[again]
    assert more.all()


@pytest.mark.parametrize("use", [PGD, CW], ids=lambda use: use.attack)
@pytest.mark.parametrize("which", ["small", "dented"])
def test_equal_for_every_sharding(shard, pruned, small, use, which):
    other = small if which == "small" else dented(small)
    use = dataclasses.replace(use, batch_size=32)
    whole = rows(shard(pruned, use, 0, 40, shrunk=other))
    for size in (1, 7):
        for start in range(0, 4 * size, size):
            for key, value in rows(shard(pruned, use, start, start + size, shrunk=other)).items():
                assert value == whole[key], (size, key)


def test_an_interrupted_task_goes_on_to_the_same_rows(shard, pruned, small):
    class Memory:
        saved: Any = None

        def save(self, arrays, state):
            self.saved = type("Saved", (), {"arrays": dict(arrays), "state": dict(state)})
            raise Interrupted("after the first slice")

        def load(self):
            return self.saved

    whole = shard(pruned, PGD, 0, 80, shrunk=small)
    memory = Memory()
    with pytest.raises(Interrupted):
        shard(pruned, PGD, 0, 80, shrunk=small, checkpoint=memory)
    assert memory.saved.state["slices"] == 1
    memory.save = lambda arrays, state: None  # type: ignore[method-assign]
    assert shard(pruned, PGD, 0, 80, shrunk=small, checkpoint=memory) == whole


@pytest.mark.parametrize("engine", ["foolbox", "foolbox-stock"])
def test_foolbox_s_engines_stay_on_the_stored_network(shard, pruned, small, engine):
    use = settings(
        "pgd_linf", engine, eps=(0.1,), options={"steps": QUICK["steps"]}, network="stored"
    )
    assert shard(pruned, use, 0, 8) == shard(pruned, use, 0, 8, shrunk=small)

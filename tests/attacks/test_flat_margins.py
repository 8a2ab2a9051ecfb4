"""Networks whose margin to the best other class has no slope, as random pruning leaves them."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.catalog import ATTACKS, METHODS, attack_entry
from tests.attacks.conftest import quick, settings
from tests.attacks.test_nearest_side import pruned_to_a_bias, surroundings

pytestmark = pytest.mark.tf


def _of_one_pixel(kernel, bias, *, hidden=None):
    """Logits of 4x4 images from their first pixel alone."""
    import keras

    first = [] if hidden is None else [keras.layers.Dense(1, activation="relu")]
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), *first, keras.layers.Dense(len(bias))]
    )
    whole = np.zeros((16, 1), np.float32)
    whole[0] = 1.0 if hidden is None else hidden
    last = np.array([kernel], np.float32)
    weights = [whole @ last] if hidden is None else [whole, np.zeros(1, np.float32), last]
    model.set_weights([*weights, np.array(bias, np.float32)])
    return model


def of_one_unit():
    """Two logits of the same weights of the only live unit; the third wins beyond 1/4."""
    return _of_one_pixel([-1.0, -1.0, 1.0], [2.0, 1.9, 0.0], hidden=4.0)


def of_far_logits():
    """As above, with logits so far apart that the third's probability is 0 in float32."""
    return _of_one_pixel([-500.0, -500.0, 500.0], [500.0, 499.0, 250.0])


def certain():
    """A probability of 1 for the label, so that the cross-entropy has no slope; up to 0.3."""
    return _of_one_pixel([-1000.0, 0.0], [300.0, 0.0])


FLAT = [pruned_to_a_bias, of_one_unit, of_far_logits]


@pytest.mark.parametrize("make", FLAT)
def test_the_slope_is_that_of_the_best_class_that_has_one(make):
    from prunegrid.workers.attacks.runtime.network import Network

    network, (batch, _) = Network(make()), surroundings()
    labels = batch.labels.astype(np.int32)
    _, slopes = network.margin_and_gradient()(batch.images, labels)
    assert not np.any(slopes)
    look = network.margin_and_gradient(slope="movable")
    margin, slopes, flat, passes = look(batch.images, labels)
    logits = network.logits(batch.images)
    np.testing.assert_allclose(margin, logits[:, 0] - logits[:, 2], rtol=1e-5)
    assert np.asarray(flat).all()
    assert (np.asarray(passes) == 4).all(), "the loss, all classes at once, two margins"
    moved = np.asarray(slopes).reshape(len(batch), -1)
    assert (moved[:, 0] < 0).all()
    assert not moved[:, 1:].any()


@pytest.mark.parametrize("make", FLAT)
def test_adams_steps_leave_a_flat_margin(make):
    from prunegrid.workers.attacks.algorithms.carlini_wagner import CarliniWagnerL2
    from prunegrid.workers.attacks.runtime.network import Network

    attack = CarliniWagnerL2(binary_search_steps=1, steps=60, stepsize=0.1, initial_const=10.0)
    network, (batch, context) = Network(make()), surroundings()
    (found,) = attack.strict(network, batch, context)
    assert found.claimed.all()


def test_pgd_leaves_a_probability_of_one(shard):
    batch, _ = surroundings()
    use = settings(
        "pgd_linf",
        "strict",
        eps=(0.31,),
        options={"steps": 8, "random_start": False, "rel_stepsize": 0.25},
    )
    n = len(batch)
    found = shard(certain(), use, 0, n, images=batch.images, labels=batch.labels)
    assert found["broken"] == [True] * n
    assert found["zero_gradient"] == [False] * n


@pytest.mark.parametrize(
    ("make", "attack", "zero"),
    [
        (of_one_unit, "cw_l2", True),
        (of_one_unit, "bb_l0", True),
        (of_one_unit, "pgd_linf", False),
        (certain, "pgd_linf", True),
        (certain, "cw_l2", False),
    ],
)
def test_the_flag_looks_at_the_loss_that_the_attack_follows(shard, make, attack, zero):
    batch, _ = surroundings()
    n = len(batch)
    for engine, expected in (("foolbox", zero), ("strict", False)):
        use = quick(attack, engine)
        columns = shard(
            make(), use, 0, n, images=batch.images, labels=batch.labels,
            pool_images=batch.images + 0.5, pool_labels=batch.labels,
        )  # fmt: skip
        assert set(columns["zero_gradient"]) == {expected}, engine


def test_attacks_of_foolbox_by_class_have_their_loss():
    for name, entry in ATTACKS.items():
        margin = name.startswith(
            ("bb_", "cw_", "fab_", "alma_", "sigma_", "target_race_", "exchange_")
        )
        assert entry.loss == ("margin" if margin else "cross-entropy"), name
        if entry.foolbox_class is not None:
            again = attack_entry(f"foolbox:{entry.foolbox_class}")
            assert again is not None
            assert again.loss == entry.loss, name
    for name, loss in {"L2FMNAttack": "margin", "DDNAttack": "cross-entropy"}.items():
        entry = attack_entry(f"foolbox:{name}")
        assert entry is not None
        assert entry.loss == loss


def pruned(images, seed):
    """A CNN5 of random weights, one in 32 left, with logits that lie close; images and the classes
    that it gives them."""
    from prunegrid.workers.attacks.runtime.network import Network
    from prunegrid.workers.models.base import build, get_weights, set_weights
    from prunegrid.workers.models.kernels import prunable
    from prunegrid.workers.pruning.step import prune_step

    model = build("cnn5", (28, 28, 1), 10, seed=0)
    weights, layers = get_weights(model), prunable(model)
    masks = prune_step(
        {layer.name: weights[layer.path] for layer in layers},
        {layer.name: np.ones(layer.shape, bool) for layer in layers},
        {layer.name: layer.kind for layer in layers},
        method=METHODS["random-local-unstructured"], rate=32.0, parent_rate=1.0, seed=seed,
    )  # fmt: skip
    for layer in layers:
        weights[layer.path] = weights[layer.path] * masks[layer.name]
    set_weights(model, weights)
    network, x = Network(model), images.test[:16]
    logits = network.logits(x)
    noise = np.random.default_rng(seed).normal(0, logits.std() / 2, 10)
    weights["logits/bias"] = (noise - np.median(logits, axis=0)).astype(np.float32)
    set_weights(model, weights)
    return model, x, network.logits(x).argmax(axis=1)


@pytest.mark.parametrize(("seed", "before"), [(3, 136), (11, 27)])
def test_after_random_pruning_few_elements_are_found_where_few_suffice(shard, images, seed, before):
    """`before`: what it took where the margin's zero gradient was followed."""
    from prunegrid.workers.attacks.runtime.network import Network

    model, x, labels = pruned(images, seed)
    network = Network(model)
    best, every = (
        np.asarray(network.margin_and_gradient(slope=slope)(x, labels.astype(np.int32))[1])
        .reshape(len(x), -1)
        .any(axis=1)
        for slope in ("best", "all")
    )
    flat = ~best & every
    assert flat.any(), "the test would prove nothing"
    use = settings("bb_exchange_l0", "strict")
    found = np.array(shard(model, use, 0, 16, images=x, labels=labels)["distance"])
    assert found[flat].max() <= 4 < before


@pytest.mark.parametrize("attack", ["bb_l0", "cw_l2", "exchange_l0", "pgd_linf", "target_race_l2"])
def test_flat_images_have_equal_results_in_every_shard(shard, images, attack):
    model, x, labels = pruned(images, 11)
    use = quick(attack, "strict")

    def rows(start, stop):
        part = slice(start, stop)
        found = shard(model, use, start, stop, images=x[part], labels=labels[part])
        names = ("distance", "queries", "adversarial_prediction", "zero_gradient")
        return {
            key: values
            for key, *values in zip(
                zip(found["image"], found["eps"], strict=True),
                *(found[name] for name in names),
                strict=True,
            )
        }

    whole = rows(0, 16)
    for start, stop in ((0, 1), (1, 6), (6, 16)):
        for key, values in rows(start, stop).items():
            assert values == whole[key]

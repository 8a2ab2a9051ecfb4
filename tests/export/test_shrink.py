"""The smaller network is really smaller, and gives the same logits, borders included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.export.networks import images, logits, pruned, settle, signal

pytestmark = pytest.mark.tf


def assert_same_logits(model, small) -> None:
    """To a thousandth of what the image changes, not only of the logits' size."""
    batch = images(model.input_shape[1:], 8, seed=11)
    expected = logits(model, batch)
    scale = max(float(expected.std(axis=0).max()), 1e-2 * float(np.abs(expected).max()))
    np.testing.assert_allclose(logits(small, batch), expected, rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize(
    ("architecture", "method", "rate"),
    [
        ("cnn5", "magnitude-global-filter", 2),
        ("cnn5", "random-local-kernel", 4),
        ("cnn5", "random-local-unstructured", 16),
        ("resnet8", "magnitude-global-filter", 16),
        ("resnet8", "magnitude-local-kernel", 16),
        ("vgg11", "magnitude-global-filter", 2),
        ("resnet18", "random-local-filter", 16),
        ("resnet18", "magnitude-global-filter", 4),
    ],
)
def test_logits_are_the_same(architecture, method, rate):
    from prunegrid.workers.export.shrink import TOLERANCE, check_logits, shrink

    model, _ = pruned(architecture, method, rate)
    assert signal(model) > 0.03, "logits that do not depend on the image prove nothing"
    before = {v.path: np.asarray(v) for v in model.variables}
    small = shrink(model)
    assert_same_logits(model, small)
    assert check_logits(model, small) <= TOLERANCE
    assert small.count_params() < model.count_params()
    assert all((before[v.path] == np.asarray(v)).all() for v in model.variables), "it was changed"


#: Convolutions whose channels no residual stream shares, and whether what weighs them pads.
ALONE = {
    "cnn5": {"conv1": False, "conv2": False},
    "resnet8": {f"block{n}_conv1": True for n in (1, 2, 3)},
    "vgg11": {f"conv{n}": n < 8 for n in range(1, 9)},
}


@pytest.mark.parametrize("architecture", ALONE)
def test_removed_filters_are_gone_but_for_one_where_the_next_layer_pads(architecture):
    from prunegrid.workers.export.shrink import shrink

    model, masks = pruned(architecture, "random-local-filter", 4)
    assert signal(model) > 0.03
    small = shrink(model)
    assert_same_logits(model, small)
    for name, next_pads in ALONE[architecture].items():
        left = int(masks[name].any(axis=(0, 1, 2)).sum())
        assert small.get_layer(name).filters == left + next_pads, name


def test_a_dense_network_stays_as_it_is():
    from prunegrid.workers.export.shrink import shrink

    model, _ = pruned("cnn5", "random-local-filter", 1)
    assert shrink(model).count_params() == model.count_params()


@pytest.mark.parametrize("method", ["random-local-filter", "magnitude-global-filter"])
def test_a_network_whose_layer_died_keeps_one_channel_of_it(method):
    """CNN5 has no filter of its first layer left at rate 64: constant logits, and no crash."""
    from prunegrid.workers.export.shrink import shrink

    model, masks = pruned("cnn5", method, 64)
    assert not masks["conv1"].any()
    small = shrink(model)
    batch = images((28, 28, 1))
    np.testing.assert_allclose(logits(small, batch), logits(model, batch), rtol=1e-5, atol=1e-6)
    assert (logits(small, batch) == logits(small, batch)[0]).all()
    assert small.get_layer("conv1").filters == 1
    assert small.get_layer("conv1").use_bias


@st.composite
def dead_channels(draw):
    """Which channels lose their weights in a small network with every kind of connection."""
    return {
        name: draw(st.lists(st.integers(0, 3), max_size=4, unique=True))
        for name in ("stem", "inner", "back", "project", "last", "hidden")
    }


def small_network():
    """A residual block with a projection; biases, batch norms, VALID and SAME, flatten, dense."""
    import keras

    layers = keras.layers
    image = keras.Input((6, 7, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(image)
    x = layers.MaxPooling2D(2, strides=1, padding="same", name="pool")(x)
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    y = layers.Conv2D(4, 3, padding="same", strides=2, use_bias=False, name="inner")(y)
    y = layers.BatchNormalization(name="norm2")(y)
    y = layers.Conv2D(4, 3, padding="same", use_bias=False, name="back")(y)
    z = layers.Conv2D(4, 1, padding="same", strides=2, use_bias=False, name="project")(x)
    x = layers.Add(name="add")([y, z])
    x = layers.Conv2D(4, 2, padding="valid", use_bias=False, name="last")(x)
    x = layers.BatchNormalization(name="norm3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4, activation="relu", name="hidden")(x)
    return keras.Model(image, layers.Dense(3, name="logits")(x))


@pytest.fixture(scope="module")
def reusable(tensorflow):
    return small_network()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(dead=dead_channels(), seed=st.integers(0, 1000))
def test_any_channels_may_die(reusable, dead, seed):
    from prunegrid.workers.export.shrink import shrink

    rng = np.random.default_rng(seed)
    for name in (*dead, "logits"):
        kernel = reusable.get_layer(name).kernel
        array = rng.normal(size=kernel.shape) / np.sqrt(np.prod(kernel.shape[:-1]))
        array[..., dead.get(name, [])] = 0
        kernel.assign(array)
    settle(reusable, seed)
    small = shrink(reusable)
    assert_same_logits(reusable, small)
    inner = small.get_layer("inner").filters
    assert inner <= max(1, 4 - len(dead["inner"]) + 1)
    both = set(dead["back"]) & set(dead["project"])
    assert small.get_layer("back").filters == small.get_layer("project").filters
    assert small.get_layer("back").filters <= max(1, 4 - len(both))


def test_weights_that_are_not_finite_are_refused():
    from prunegrid.workers.export.shrink import shrink

    model, _ = pruned("cnn5", "random-local-filter", 2)
    kernel = model.get_layer("conv2").kernel.numpy()
    kernel[0] = np.nan
    model.get_layer("conv2").kernel.assign(kernel)
    with pytest.raises(ValueError, match="expected finite weights, got others in conv2/kernel"):
        shrink(model)


def test_other_logits_are_refused():
    from prunegrid.workers.export.shrink import ShrinkError, check_logits

    one, two = (pruned("cnn5", "random-local-filter", 2, seed=seed)[0] for seed in (0, 1))
    with pytest.raises(ShrinkError, match=r"at most 0\.0001, got [0-9]"):
        check_logits(one, two)


def test_the_smaller_network_is_attacked_where_it_saves_enough():
    """By the work that is left, and by what an attack's steps save of it; see the constants."""
    from prunegrid.workers.catalog import ATTACKS
    from prunegrid.workers.export.shrink import is_worth

    large, small = 150_000_000, 400_000
    assert is_worth(large, large // 2, 40)
    assert not is_worth(large, large * 9 // 10, 40_000), "nine tenths of the work are left"
    assert not is_worth(small, small // 10, 540)
    assert is_worth(small, small // 10, 45_000)
    assert is_worth(large, 0, None)
    assert not is_worth(small, 0, None)
    steps = {name: ATTACKS[name].most_steps({}) for name in ("target_race_l2", "cw_l2", "ddn_l2")}
    assert steps == {"target_race_l2": 540, "cw_l2": 45_000, "ddn_l2": 100}
    assert ATTACKS["cw_l2"].most_steps({"steps": 10}) == 90

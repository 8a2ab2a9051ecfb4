"""Constants are told from what an image decides: checked against what the layers really give."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.networks import images, pruned

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        ("cnn5", "random-local-filter"),
        ("cnn5", "random-local-kernel"),
        ("resnet8", "random-local-filter"),
        ("resnet8", "magnitude-local-kernel"),
        ("resnet18", "random-local-filter"),
    ],
)
def test_constants_are_what_the_layers_give(architecture, method):
    import keras

    from prunegrid.workers.export.constants import constant_channels

    model, _ = pruned(architecture, method, 16 if architecture != "cnn5" else 8)
    layers = model.layers[1:]
    outputs = keras.Model(model.input, [layer.output for layer in layers])
    found = outputs(images(model.input_shape[1:], 4), training=False)
    constants = constant_channels(model)
    checked = 0
    for layer, output in zip(layers, found, strict=True):
        values = np.asarray(output).reshape(-1, output.shape[-1])
        known = ~np.isnan(constants[layer.name])
        expected = np.broadcast_to(constants[layer.name][known], values[:, known].shape)
        np.testing.assert_allclose(values[:, known], expected, rtol=1e-4, atol=1e-4)
        checked += int(known.sum())
    assert checked > 0


def test_every_pruned_filter_is_known_to_be_constant():
    from prunegrid.workers.export.constants import constant_channels

    model, masks = pruned("resnet8", "random-local-filter", 4)
    constants = constant_channels(model)
    for name in ("conv1", "block1_conv1", "block2_conv2"):
        dead = ~masks[name].any(axis=(0, 1, 2))
        assert (~np.isnan(constants[name]) == dead).all()
    # The batch norm makes a constant other than 0 of them.
    dead = ~masks["block1_conv1"].any(axis=(0, 1, 2))
    assert (constants["block1_norm2"][dead] != 0).all()


def convolved(padding: str, *, size: int = 3, value: float = 2.0):
    """[n, 4, 4, 1] -> a channel that is `value` everywhere -> a convolution of it."""
    import keras

    inputs = keras.Input((4, 4, 1), name="image")
    x = keras.layers.Conv2D(1, 1, name="one")(inputs)
    x = keras.layers.Conv2D(1, size, padding=padding, name="two")(x)
    model = keras.Model(inputs, x)
    model.get_layer("one").set_weights([np.zeros((1, 1, 1, 1)), np.array([value])])
    return model


def test_padding_breaks_a_constant_at_the_border():
    from prunegrid.workers.export.constants import constant_channels

    inner = {}
    for padding, size in (("same", 3), ("valid", 3), ("same", 1)):
        inner[padding, size] = constant_channels(convolved(padding, size=size))["two"]
    assert np.isnan(inner["same", 3]).all()
    assert not np.isnan(inner["valid", 3]).any()
    assert not np.isnan(inner["same", 1]).any(), "a 1x1 kernel sees no border"
    assert not np.isnan(constant_channels(convolved("same", value=0.0))["two"]).any()


def test_an_activation_that_is_not_known_makes_nothing_known():
    import keras

    from prunegrid.workers.export.constants import constant_channels

    inputs = keras.Input((4,), name="image")
    outputs = keras.layers.Dense(3, activation="softmax", name="out")(inputs)
    model = keras.Model(inputs, outputs)
    model.get_layer("out").set_weights([np.zeros((4, 3)), np.ones(3)])
    assert np.isnan(constant_channels(model)["out"]).all()


def test_a_batch_norm_of_scale_0_is_its_shift():
    import keras

    from prunegrid.workers.export.constants import constant_channels

    inputs = keras.Input((4, 4, 2), name="image")
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(inputs))
    model.get_layer("norm").gamma.assign([0.0, 1.0])
    model.get_layer("norm").beta.assign([3.0, 3.0])
    first, second = constant_channels(model)["norm"]
    assert first == 3.0
    assert np.isnan(second)


def test_an_operation_between_layers_is_named():
    import keras

    from prunegrid.workers.export.constants import constant_channels

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(3, 3, padding="same")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU(name="behind")(x + inputs))
    with pytest.raises(ValueError, match=r"behind: expected to take what layers return.*got the"):
        constant_channels(model)


def test_an_unknown_layer_is_named():
    import keras

    from prunegrid.workers.export.constants import constant_channels

    inputs = keras.Input((8, 8, 2), name="image")
    model = keras.Model(inputs, keras.layers.SeparableConv2D(3, 3, name="deep")(inputs))
    with pytest.raises(ValueError, match=r"deep: expected layers of .*Conv2D.*got Separable"):
        constant_channels(model)
    for layer in (
        keras.layers.Conv2D(4, 3, groups=2, name="deep"),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep"),
    ):
        with pytest.raises(ValueError, match=r"deep: expected a convolution of one group"):
            constant_channels(keras.Model(inputs, layer(inputs)))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_depthwise_convolutions_and_bounded_relus_keep_channels_apart(padding):
    """Channels: of a constant 2, of no weights, and of the image."""
    import keras

    from prunegrid.workers.export.constants import constant_channels

    inputs = keras.Input((6, 6, 1), name="image")
    first = keras.layers.Conv2D(3, 1, name="first")
    deep = keras.layers.DepthwiseConv2D(3, padding=padding, name="deep")
    model = keras.Model(inputs, keras.layers.ReLU(6.0, name="relu")(deep(first(inputs))))
    first.kernel.assign(np.array([0, 1, 1], np.float32).reshape(1, 1, 1, 3))
    first.bias.assign([2, 0, 0])
    each = np.array([1, 0, 1], np.float32).reshape(1, 1, 3, 1)
    deep.kernel.assign(np.broadcast_to(each, (3, 3, 3, 1)))
    deep.bias.assign([0, 9, 0])
    constants = constant_channels(model)
    inside = 2.0 * 9 if padding == "valid" else np.nan  # the border sees fewer
    np.testing.assert_equal(constants["deep"], [inside, 9, np.nan])
    np.testing.assert_equal(
        constants["relu"], [min(inside, 6) if inside > 0 else np.nan, 6, np.nan]
    )
    found = np.asarray(model(images((6, 6, 1), 4)))
    assert (found[..., 1] == 6).all()

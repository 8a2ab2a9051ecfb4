"""Every architecture: the published weight counts, stateless initial weights, pruning of
real shapes by every method to rate 64."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from prunegrid.workers.catalog import ARCHITECTURES, METHODS
from prunegrid.workers.pruning.step import prune_step, survivors
from prunegrid.workers.pruning.structures import pruned_layers, units
from tests.science import BY_WEIGHTS

pytestmark = pytest.mark.tf

PUBLISHED = {"cnn5": 61_470, "resnet8": 1_164_640, "vgg11": 11_325_120, "resnet18": 11_000_000}


def make(name: str, seed: int = 0, shape=None):
    from prunegrid.workers.models.base import build

    small = (64, 64, 3) if name == "resnet18" else ARCHITECTURES[name].input_shape
    return build(name, shape or small, 10, seed=seed)


def test_the_papers_networks_have_the_published_numbers_of_weights():
    assert {name: ARCHITECTURES[name].prunable_weights for name in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_catalog_counts_prunable_weights(name, tensorflow):
    from prunegrid.workers.models.kernels import prunable

    layers = prunable(make(name))
    counted = sum(int(np.prod(layer.shape)) for layer in layers)
    assert ARCHITECTURES[name].prunable_weights == counted


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_catalog_counts_multiply_adds_at_the_papers_shape(name, tensorflow):
    from prunegrid.workers.models.kernels import kernels

    entry = ARCHITECTURES[name]
    layers = kernels(make(name, shape=entry.input_shape))
    counted = sum(int(np.prod(layer.shape)) * layer.positions for layer in layers)
    assert entry.forward_flops == counted


@pytest.mark.parametrize("name", ["cnn5", "resnet18"])
def test_the_authors_count_the_same_weights(name, shared, tensorflow):
    raw = pd.read_parquet(shared / f"reference/authors_{name}.parquet")
    assert set(raw["params_total"]) == {ARCHITECTURES[name].prunable_weights}


def test_residual_projections_cost_multiply_adds_and_are_not_pruned(tensorflow):
    """Which is what makes the authors' count of ResNet18 exactly 11 000 000."""
    from prunegrid.workers.models.kernels import kernels, prunable

    model = make("resnet18", shape=(32, 32, 3))
    left_out = set(kernels(model)) - set(prunable(model))
    assert {layer.shape for layer in left_out} == {
        (1, 1, 64, 128),
        (1, 1, 128, 256),
        (1, 1, 256, 512),
    }
    positions = {layer.name: layer.positions for layer in kernels(model)}
    assert (positions["conv1"], positions["block1_conv1"], positions["logits"]) == (16 * 16, 64, 1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_initial_weights_depend_on_the_seed_alone(name, tensorflow):
    from prunegrid.workers.models.base import get_weights

    one, two, other = (get_weights(make(name, seed)) for seed in (1, 1, 2))
    assert set(one) == set(two)
    assert all((one[n] == two[n]).all() for n in one)
    kernels = [n for n in one if n.endswith("/kernel")]
    assert all((one[n] != other[n]).any() for n in kernels)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_are_logits(name, tensorflow):
    model = make(name)
    x = np.random.default_rng(0).random((2, *model.input_shape[1:]), dtype=np.float32)
    out = np.asarray(model(x, training=False))
    assert out.shape == (2, 10)
    assert not np.allclose(out.sum(axis=1), 1), "a softmax's rows would sum to 1"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_images_may_be_as_small_as_the_catalog_says_and_no_smaller(name, tensorflow):
    least, channels = ARCHITECTURES[name].min_size, ARCHITECTURES[name].input_shape[2]
    assert make(name, shape=(least, least + 5, channels)).output_shape == (None, 10)
    if least > 1:
        got = f"got {least + 5}x{least - 1}x{channels}"
        with pytest.raises(ValueError, match=f"{name}: expected .* least {least}x{least}, {got}"):
            make(name, shape=(least + 5, least - 1, channels))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("method", BY_WEIGHTS)
def test_every_method_reaches_rate_64_on_the_real_shapes(name, method, tensorflow):
    """In one step from random weights; chains are tested on random shapes."""
    from prunegrid.workers.models.base import get_weights
    from prunegrid.workers.models.kernels import prunable

    model = _cached(name)
    layers = prunable(model)
    weights = get_weights(model)
    entry = METHODS[method]
    masks = prune_step(
        {layer.name: weights[layer.path] for layer in layers},
        {layer.name: np.ones(layer.shape, dtype=bool) for layer in layers},
        {layer.name: layer.kind for layer in layers},
        method=entry,
        rate=64,
        parent_rate=1,
        seed=0,
    )
    kinds = {layer.name: layer.kind for layer in layers}
    unit = pruned_layers(entry.structure, kinds, {n: mask.shape for n, mask in masks.items()})
    parts = {name: units(masks[name], of) for name, of in unit.items()}
    counts = {name: len(mine) for name, mine in parts.items()}
    left = {name: int(mine.any(axis=1).sum()) for name, mine in parts.items()}
    if entry.scope == "local":
        assert left == {n: survivors(counts[n], 64) for n in counts}
    else:
        assert sum(left.values()) == survivors(sum(counts.values()), 64)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_catalog_says_what_structured_methods_can_prune(name, tensorflow):
    from prunegrid.workers.models.kernels import prunable

    convolutions = [layer for layer in prunable(_cached(name)) if layer.kind == "conv"]
    assert ARCHITECTURES[name].conv_weights == sum(int(np.prod(k.shape)) for k in convolutions)


def test_depthwise_convolutions_are_counted_and_pruned(tensorflow):
    """8 channels, 16x16: a 3x3 depthwise convolution of stride 2, then a pointwise one."""
    import keras

    from prunegrid.workers.models.kernels import kernels, prunable
    from prunegrid.workers.pruning.counts import layer_counts

    image = keras.Input((16, 16, 8))
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise")(image)
    x = keras.layers.Conv2D(4, 1, name="pointwise")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(10, name="logits")(x))
    layers = prunable(model)
    assert layers == kernels(model)
    masks = prune_step(
        {layer.name: np.asarray(model.get_layer(layer.name).kernel) for layer in layers},
        {layer.name: np.ones(layer.shape, dtype=bool) for layer in layers},
        {layer.name: layer.kind for layer in layers},
        method=METHODS["magnitude-local-filter"],
        rate=2,
        parent_rate=1,
        seed=0,
    )
    found = {c.name: c for c in layer_counts(layers, masks)}
    assert {name: (c.total, c.left) for name, c in found.items()} == {
        "depthwise": (72, 36),
        "pointwise": (32, 16),
        "logits": (40, 40),
    }
    assert {name: (c.flops_total, c.flops_left) for name, c in found.items()} == {
        "depthwise": (72 * 64, 36 * 64),
        "pointwise": (32 * 64, 16 * 64),
        "logits": (40, 40),
    }


_models: dict[str, object] = {}


def _cached(name: str):
    if name not in _models:
        _models[name] = make(name)
    return _models[name]

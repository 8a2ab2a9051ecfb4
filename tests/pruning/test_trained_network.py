"""What gradient-based scores see of a network, against gradients by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.data.base import ImageSplit

pytestmark = pytest.mark.tf

PATHS = {"conv": "conv/kernel", "logits": "logits/kernel", "aside": "aside/kernel"}


def split(count: int = 40) -> ImageSplit:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 6, 5, 2)).astype(np.uint8)
    return ImageSplit(images=images, labels=rng.integers(0, 3, count).astype(np.int32))


@pytest.fixture(scope="module")
def model(tensorflow):
    """With batch norm, which must stay in inference mode, and a layer that the loss ignores."""
    import keras

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 5, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    aside = keras.layers.Dense(3, name="aside", kernel_initializer="zeros")(x)
    logits = keras.layers.Dense(3, name="logits")(x)
    return keras.Model(inputs, keras.layers.Add(name="add")([logits, 0.0 * aside]))


def view(model, **options):
    from prunegrid.workers.pruning.trained_network import TrainedNetwork

    return TrainedNetwork(model, PATHS, options.pop("split", split()), 7, **options)


def by_hand(model, images, labels, layer: str) -> np.ndarray:
    """Central differences of the mean loss, by each weight of a kernel."""
    import tensorflow as tf

    kernel = model.get_layer(layer).kernel
    start = kernel.numpy()

    def loss(weights) -> float:
        kernel.assign(weights)
        logits = np.asarray(model(images, training=False), np.float64)
        own = logits[np.arange(len(labels)), labels]
        return float(np.mean(tf.reduce_logsumexp(logits, axis=1).numpy() - own))

    out = np.zeros(start.shape)
    for place in np.ndindex(*start.shape):
        step = np.zeros_like(start)
        step[place] = 1e-2
        out[place] = (loss(start + step) - loss(start - step)) / 2e-2
    kernel.assign(start)
    return out


def test_gradients_of_the_mean_loss(model):
    before = [v.numpy().copy() for v in model.variables]
    found = view(model).gradients(3, 16)
    batches = list(view(model).batches(3, 16))
    for layer in ("conv", "logits"):
        expected = np.mean([by_hand(model, x, y, layer) for x, y in batches], axis=0)
        np.testing.assert_allclose(found[layer], expected, atol=2e-3)
        assert np.abs(expected).max() > 0.01
    assert not found["aside"].any()
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_squared_gradients_of_single_images(model):
    found = view(model).squared_gradients(8)
    ((images, labels),) = view(model).batches(1, 8)
    single = [by_hand(model, images[i : i + 1], labels[i : i + 1], "logits") for i in range(8)]
    np.testing.assert_allclose(found["logits"], np.square(single).mean(axis=0), atol=2e-3)
    more = view(model, split=split(200)).squared_gradients(130)
    assert more["logits"].shape == (4, 3)


def test_batches_cover_the_training_images_once_before_any_twice(model):
    images = split().images.astype(np.float32) / np.float32(255)
    places = {image.tobytes(): i for i, image in enumerate(images)}
    drawn = [places[x.tobytes()] for batch, _ in view(model).batches(5, 16) for x in batch]
    assert sorted(drawn[:40]) == list(range(40))
    assert sorted(drawn[40:]) != drawn[40:]
    again = [places[x.tobytes()] for batch, _ in view(model).batches(5, 16) for x in batch]
    assert drawn == again
    labels = split().labels
    for batch, mine in view(model).batches(2, 16):
        assert [labels[places[x.tobytes()]] for x in batch] == mine.tolist()
        assert batch.dtype == np.float32

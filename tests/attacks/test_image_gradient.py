"""The gradient in full vectors: TensorFlow's own bits, and taken only where it has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.tf,
    pytest.mark.usefixtures("_configured"),
]


@pytest.mark.parametrize(
    ("image", "kernel", "rows"),
    [
        ((28, 28, 1), (5, 5, 1, 6), 14),
        ((28, 20, 1), (4, 2, 1, 6), 14),
        ((12, 9, 3), (3, 3, 3, 20), 4),
        ((32, 32, 3), (3, 3, 3, 8), 4),
    ],
)
def test_it_equals_tensorflows(image, kernel, rows):
    from prunegrid.workers.attacks.runtime.image_gradient import FirstConvolution

    first = FirstConvolution(image=image, kernel=kernel)
    assert first.rows == rows
    other = [n for n in (16, 7, 100) if not first.same_bits(n)]
    if "avx512f" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"oneDNN's own vectors are shorter here: other bits at {other}, not taken")
    assert other == []


def test_other_bits_are_noticed(monkeypatch):
    from prunegrid.workers.attacks.runtime.image_gradient import FirstConvolution

    whole = FirstConvolution.gradient
    monkeypatch.setattr(
        FirstConvolution, "gradient", lambda self, s, k: whole(self, s, k) * np.float32(1 + 1e-7)
    )
    first = FirstConvolution(image=(14, 14, 1), kernel=(3, 3, 1, 6))
    assert not first.same_bits(16)


@pytest.mark.parametrize("same", [True, False])
def test_compiled_attacks_take_it_where_bits_are_the_same(images, monkeypatch, same):
    import tensorflow as tf

    from prunegrid.workers.attacks.runtime.image_gradient import FirstConvolution
    from prunegrid.workers.attacks.runtime.network import Network
    from prunegrid.workers.models.base import build

    traced, asked = [], []
    whole = FirstConvolution.gradient

    def gradient(self, slopes, kernel):
        traced.append(self)
        return whole(self, slopes, kernel)

    def same_bits(self, batch):
        asked.append(batch)
        return same

    monkeypatch.setattr(FirstConvolution, "gradient", gradient)
    monkeypatch.setattr(FirstConvolution, "same_bits", same_bits)
    model = build("cnn5", (28, 28, 1), 10, seed=1)
    x, labels = images.test[:16], images.test_labels[:16]
    _, slopes = Network(model).margin_and_gradient()(x, labels)
    assert asked == [16]
    assert len(traced) == same
    assert "convolution_op" not in vars(model.get_layer("conv1"))

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = model(x, training=False)
        own = tf.one_hot(labels, 10)
        others = tf.reduce_max(logits - own * 1e9, axis=1)
        total = tf.reduce_sum(tf.reduce_sum(logits * own, axis=1) - others)
    np.testing.assert_allclose(slopes, tape.gradient(total, x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("architecture", "served"), [("cnn5", True), ("vgg11", True), ("resnet8", False)]
)
def test_the_networks_it_serves(architecture, served):
    """A convolution of stride 1 first."""
    from prunegrid.workers.attacks.runtime.image_gradient import first_convolution
    from prunegrid.workers.models.base import build

    model = build(architecture, (32, 32, 3), 10, seed=0)
    assert (first_convolution(model) is not None) == served

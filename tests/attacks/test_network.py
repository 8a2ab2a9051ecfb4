"""A model as attacks see it: which batch shapes give the same bits."""

from __future__ import annotations

import types

import numpy as np
import pytest

pytestmark = [pytest.mark.tf, pytest.mark.xdist_group("attacks")]


@pytest.mark.parametrize(("odd", "equal"), [(None, True), (16, False), (48, False), (80, True)])
def test_every_shape_of_a_last_piece_is_asked(monkeypatch, odd, equal):
    """A device that rounds otherwise in one shape alone; shapes above the size do not matter."""
    import tensorflow as tf

    from prunegrid.workers.attacks.runtime.network import Network

    def look(images, labels):
        shift = np.float32(1e-7 if len(images) == odd else 0)
        return tf.constant(images.sum(axis=(1, 2, 3)) + shift * 100), tf.constant(images)

    monkeypatch.setattr(Network, "margin_and_gradient", lambda self: look)
    network = Network(types.SimpleNamespace(input_shape=(None, 2, 2, 1)))
    assert network.smaller_is_equal(64) is equal

"""A model as attacks see it: which batch shapes give the same bits."""

from __future__ import annotations

import types

import numpy as np
import pytest

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(("odd", "equal"), [(None, True), (16, False), (48, False), (80, True)])
def test_every_shape_of_a_last_piece_is_asked(monkeypatch, odd, equal):
    """A device that rounds otherwise in one shape alone; shapes above the size do not matter."""
    import tensorflow as tf

    from prunegrid.workers.attacks.runtime.network import Network

    def look(images, labels):
        shift = np.float32(1e-7 if len(images) == odd else 0)
        return tf.constant(images.sum(axis=(1, 2, 3)) + shift * 100), tf.constant(images)

    monkeypatch.setattr(Network, "margin_and_gradient", lambda self: look)
    network = Network(types.SimpleNamespace(input_shape=(None, 2, 2, 1), output_shape=(None, 3)))
    assert network.smaller_is_equal(64) is equal


@pytest.mark.parametrize(("size", "taken"), [(16, 16), (32, 48), (64, 64), (128, 144)])
def test_a_shape_in_which_places_matter_is_left_out(monkeypatch, size, taken):
    """As a device that multiplies in blocks of six rows, and rounds the last two of 32 or 128
    otherwise; with too little memory for a shape, the next smaller one of those left is taken."""
    import tensorflow as tf

    from prunegrid.workers.attacks.runtime.micro_batches import MicroBatches
    from prunegrid.workers.attacks.runtime.network import Network

    asked = []

    def look(images, labels):
        asked.append(len(images))
        out = images.sum(axis=(1, 2, 3))
        if len(images) % 6 == 2:
            out[-2:] += np.float32(1e-5)
        return tf.constant(out), tf.constant(images)

    monkeypatch.setattr(Network, "margin_and_gradient", lambda self: look)
    network = Network(types.SimpleNamespace(input_shape=(None, 2, 2, 1), output_shape=(None, 3)))
    micro_batches = MicroBatches(size, place_matters=network.place_matters)
    assert (micro_batches.nominal, micro_batches.size) == (size, taken)
    (piece, padded), *rest = micro_batches.pieces(np.arange(5))
    assert (len(piece), len(padded), rest) == (5, taken, [])
    count = len(asked)
    assert not network.place_matters(taken)
    assert len(asked) == count, "measured once"
    if taken > 16:
        for _ in micro_batches.pieces(np.arange(5)):
            if micro_batches.size == taken:
                with micro_batches.attempt():
                    raise MemoryError
        assert micro_batches.size == {48: 16, 64: 16, 144: 64}[taken]


def test_where_memory_is_short_no_place_is_measured(monkeypatch):
    from prunegrid.workers.attacks.runtime.network import Network

    def look(images, labels):
        raise MemoryError

    monkeypatch.setattr(Network, "margin_and_gradient", lambda self: look)
    network = Network(types.SimpleNamespace(input_shape=(None, 2, 2, 1), output_shape=(None, 3)))
    assert not network.place_matters(32)

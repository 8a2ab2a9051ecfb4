"""Exchanges of elements, on functions whose fewest changes are known."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.attacks.algorithms.element_exchange.exchange import (
    SeenSets,
    exchange_elements,
)
from prunegrid.workers.attacks.base import AttackContext, Batch
from prunegrid.workers.attacks.runtime.heartbeats import Ticker

pytestmark = pytest.mark.tf

SHAPE = (4, 4, 1)


class Linear:
    """A margin b + w . x in place of a network's."""

    def __init__(self, weights, offset):
        self.weights, self.offset = np.float32(weights), np.float32(offset)
        self.queried: list[bytes] = []  #: of the first image, which element is how

    def margin_and_gradient(self, *, slope):
        import tensorflow as tf

        def margins(x, labels):
            self.queried.append(x[0].tobytes())
            margin = x.reshape(len(x), -1) @ self.weights + self.offset
            slope = np.broadcast_to(self.weights.reshape(SHAPE), x.shape)
            none = np.zeros(len(x), bool)
            return tf.constant(margin), tf.constant(slope), none, np.ones(len(x), np.int32)

        return margins


def exchange(network, clean, found, most):
    from prunegrid.workers.attacks.runtime.micro_batches import MicroBatches

    n = len(clean)
    context = AttackContext(
        eps=(), seed=0, micro_batches=MicroBatches(16), pool=None,
        ticker=Ticker(lambda fraction, note: None, lambda: False),
    )  # fmt: skip
    batch = Batch(images=clean, labels=np.zeros(n, np.int64), indices=np.arange(n))
    seen = SeenSets(n, clean[0].size, most)
    ours, (forward, backward, flat) = exchange_elements(
        network, batch, found, np.full(n, most), seen, np.arange(n), context
    )
    assert np.array_equal(forward, backward)
    assert not flat.any()
    return ours, forward


def test_finds_the_fewest_changes_of_a_linear_margin():
    rng = np.random.default_rng(0)
    clean = rng.random((20, *SHAPE), np.float32)
    weights = rng.normal(size=16).astype(np.float32)
    flat = clean.reshape(20, -1)
    gains = np.sort(np.maximum(weights * flat, weights * (flat - 1)), axis=1)[:, ::-1]
    # So that each image takes three changes, the middle of its third one's reach.
    network = Linear(weights, 0)
    need = gains[:, :2].sum(axis=1) + gains[:, 2] / 2
    for i in range(20):
        network.offset = np.float32(need[i] - flat[i] @ weights)
        start = np.where(weights > 0, 0, 1).astype(np.float32).reshape(1, *SHAPE)
        assert (start != clean[i]).sum() == 16
        ours, queries = exchange(network, clean[i : i + 1], start, 40)
        assert (ours[0] != clean[i]).sum() == 3
        assert ours.reshape(-1) @ weights + network.offset < 0
        assert queries[0] <= 40


def test_exchanges_where_no_element_can_simply_go_back():
    """Three small changes, none of which can be missed; two large ones do as well."""
    weights = np.array([1, 1, 1, 1.4, 1.4, *[0.1] * 11], np.float32)
    clean = np.ones((1, *SHAPE), np.float32)
    start = clean.copy()
    start.reshape(-1)[:3] = 0
    network = Linear(weights, 2.6 - weights.sum())
    ours, queries = exchange(network, clean, start, 12)
    assert np.flatnonzero(ours != clean).tolist() == [3, 4]
    assert queries[0] <= 12


def test_queries_no_exchanged_set_twice():
    """No two elements suffice: every query but the first two is of another pair."""
    weights = np.linspace(1, 1.1, 16).astype(np.float32)
    clean = np.ones((1, *SHAPE), np.float32)
    start = clean.copy()
    start.reshape(-1)[:3] = 0
    network = Linear(weights, 2.5 - weights.sum())
    ours, queries = exchange(network, clean, start, 30)
    assert np.array_equal(ours, start)
    assert queries[0] == len(network.queried) == 30
    pairs = network.queried[1:]
    assert len(set(pairs)) == len(pairs)


def test_never_more_queries_than_allowed_and_none_without_a_slope():
    clean = np.ones((3, *SHAPE), np.float32)
    start = np.zeros_like(clean)
    network = Linear(np.ones(16), -4.0)
    ours, queries = exchange(network, clean, start, 5)
    assert (queries == 5).all()
    assert len(network.queried) == 5
    assert ((ours != clean).sum(axis=(1, 2, 3)) < 16).all()
    flat = Linear(np.zeros(16), 1.0)
    ours, queries = exchange(flat, clean, start, 50)
    assert np.array_equal(ours, start)
    assert (queries <= 2).all()
    ours, queries = exchange(network, clean, start, 0)
    assert np.array_equal(ours, start)
    assert (queries == 0).all()

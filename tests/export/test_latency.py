"""Medians in milliseconds; masks cost nothing, removed filters save time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.networks import pruned

pytestmark = pytest.mark.tf


class Clock:
    """Says that successive calls took these seconds."""

    def __init__(self, durations_s):
        self._now, self._left, self._running = 0.0, list(durations_s), False

    def __call__(self) -> float:
        if self._running:
            self._now += self._left.pop(0)
        self._running = not self._running
        return self._now


def test_the_median_in_milliseconds_without_the_warm_up():
    from prunegrid.workers.export.latency import latencies_ms

    model, _ = pruned("cnn5", "random-local-filter", 1)
    warmup, rounds = [9, 8, 9, 8], [0.001, 0.010, 0.003, 0.030, 0.500, 0.020]
    got = latencies_ms([model, model], repeats=3, warmup=2, clock=Clock(warmup + rounds))
    assert got == pytest.approx((3.0, 20.0))


def test_masks_leave_no_operation_in_the_network():
    """What a pruned model runs is what a dense one runs: it can't cost more."""
    import tensorflow as tf

    dense, _ = pruned("resnet8", "random-local-filter", 1)
    sparse, _ = pruned("resnet8", "magnitude-global-unstructured", 16)

    def operations(model) -> list[str]:
        spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
        graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec).graph
        return [operation.type for operation in graph.get_operations()]

    assert "Conv2D" in operations(dense)
    assert operations(sparse) == operations(dense)
    assert sparse.get_config()["layers"] == dense.get_config()["layers"]


def test_a_shrunk_network_is_faster():
    """VGG11 without 15 of 16 filters does a hundredth of the work; half the time is asked."""
    from prunegrid.workers.export.latency import latencies_ms
    from prunegrid.workers.export.shrink import shrink

    model, _ = pruned("vgg11", "magnitude-local-filter", 16)
    dense_ms, shrunk_ms = latencies_ms([model, shrink(model)], batch_size=4, repeats=7)
    assert 0 < shrunk_ms < dense_ms / 2
    assert np.isfinite(latencies_ms([shrink(model)], repeats=3))

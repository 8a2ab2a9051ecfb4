"""TensorFlow's configuration, on a CPU for real and on a GPU that is played."""

from __future__ import annotations

import pytest

from workers import device

pytestmark = pytest.mark.tf


def test_a_cpu_with_the_threads_asked_for():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert device.configure(1, None) == "cpu"
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    assert tf.config.threading.get_inter_op_parallelism_threads() == 1


def test_once_per_process():
    """A second call would fail inside TensorFlow, which is running by then."""
    assert device.configure(1, None) == device.configure(4, 100)


@pytest.mark.parametrize("limit_mib", [None, 2048])
def test_a_gpu_is_limited_and_made_deterministic(limit_mib, monkeypatch):
    import tensorflow as tf

    done: list[tuple] = []
    monkeypatch.setattr(device, "_configured", None)
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, lambda threads: None)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu0"])
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda gpu, limits: done.append(("limit", limits[0].memory_limit)),
    )
    played = tf.config.experimental
    monkeypatch.setattr(played, "set_memory_growth", lambda gpu, on: done.append(("growth", on)))
    monkeypatch.setattr(played, "enable_op_determinism", lambda: done.append(("determinism",)))
    monkeypatch.setattr(played, "get_device_details", lambda gpu: {"device_name": "Tesla T4"})
    assert device.configure(1, limit_mib) == "Tesla T4"
    memory = ("growth", True) if limit_mib is None else ("limit", 2048)
    assert done == [memory, ("determinism",)]

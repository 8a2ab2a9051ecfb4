"""TensorFlow's configuration, on a CPU for real and on a GPU that is played."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from prunegrid.workers import device

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


@pytest.mark.parametrize(("switch", "library"), [("0", "Eigen"), ("1", "oneDNN")])
def test_what_changes_the_last_bits_on_a_cpu_is_told(switch, library):
    code = (
        "from prunegrid.workers import device\n"
        "print(device.configure(1, None), device.arithmetic())"
    )
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": switch, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    where, told, vectors = done.stdout.split()
    assert (where, told) == ("cpu", library)
    assert vectors


NVIDIA_SMI = """#!/bin/sh
[ "$*" = "--query-gpu=memory.total --format=csv,noheader,nounits --id=3" ] || exit 9
echo 16000
"""


@pytest.mark.parametrize(
    ("limit_mib", "frac", "memory"),
    [
        (None, 1.0, ("growth", True)),
        (2048, 1.0, ("limit", 2048)),
        (2048, 0.25, ("limit", 2048)),
        (None, 0.25, ("limit", 3400)),  # 0.85 of a quarter
        (None, 0.5, ("growth", True)),  # nobody tells the size
    ],
)
def test_a_gpu_is_limited_and_made_deterministic(limit_mib, frac, memory, monkeypatch, tmp_path):
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
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    if frac == 0.25:
        (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert device.configure(1, limit_mib, frac) == "Tesla T4"
    assert done == [memory, ("determinism",)]
    assert device.arithmetic() == "TF32"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert device.arithmetic() == "FP32"

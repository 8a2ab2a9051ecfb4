"""The one place that configures TensorFlow and chooses the device."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator

_configured: str | None = None


def configure(threads: int, gpu_memory_mib: int | None, gpu_frac: float = 1.0) -> str:
    """Set TensorFlow up once per process; returns "cpu" or the GPU's name.

    `threads`: operations within a kernel use this many on CPU. Results' last bits depend on it
    (1 and 2 threads give different sums), so it is set here and recorded in every row, instead
    of taken from OMP_NUM_THREADS, which Ray sets to the task's CPUs.
    `gpu_memory_mib`: a limit on a shared GPU; None: as much as `gpu_frac` of it, where below 1
    others compute on it too and nvidia-smi tells its size; else TensorFlow grows as it needs.
    """
    global _configured
    if _configured is not None:
        return _configured
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _chatter_withheld() as chatter:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        # A GPU was given and TensorFlow does not see it: its words say why.
        chatter.wanted = not gpus and os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "-1")

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    # Grappler's meta optimizer rewrites arithmetic: attacks' distances would move by up to 6e-5
    # against the eager reference.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if not gpus:
        _configured = "cpu"
        return _configured
    if gpu_memory_mib is None and gpu_frac < 1:
        gpu_memory_mib = _part_of_memory_mib(gpu_frac)
    for gpu in gpus:
        if gpu_memory_mib is None:
            tf.config.experimental.set_memory_growth(gpu, True)
        else:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=gpu_memory_mib)
            tf.config.set_logical_device_configuration(gpu, [limit])
    # On a CPU with a fixed thread count kernels are deterministic already; on a GPU they are not.
    tf.config.experimental.enable_op_determinism()
    details = tf.config.experimental.get_device_details(gpus[0])
    _configured = str(details.get("device_name", "gpu"))
    return _configured


def device_name() -> str:
    """Of what `configure` chose, as people call it: two CPUs differ in speed as two GPUs do."""
    if _configured not in (None, "cpu"):
        return str(_configured)
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "CPU"


#: Of its part: each process also holds some hundred MiB for CUDA itself, beside the limit.
_OF_ITS_PART = 0.85


def _part_of_memory_mib(frac: float) -> int | None:
    """A part of the smallest visible GPU's memory; None where nvidia-smi does not say."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        query.append(f"--id={visible}")
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        total_mib = min(float(line) for line in answer.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return int(total_mib * frac * _OF_ITS_PART)


class _Chatter:
    wanted = True  #: shown after all; so too where the import fails


@contextlib.contextmanager
def _chatter_withheld() -> Iterator[_Chatter]:
    """Holds back what TensorFlow's libraries write to standard error while they load, which
    TF_CPP_MIN_LOG_LEVEL does not reach."""
    chatter = _Chatter()
    sys.stderr.flush()
    try:
        before = os.dup(2)
    except OSError:  # no standard error to hold back
        yield chatter
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield chatter
        finally:
            os.dup2(before, 2)
            os.close(before)
            if chatter.wanted:
                held.seek(0)
                os.write(2, held.read())

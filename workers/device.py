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
    """Configure TensorFlow, once per process. Returns "cpu" or the GPU's name.

    `threads`: the threads of one operation on a CPU. The last bits of results depend on it (1 and
    2 threads give different sums), so it is set here and recorded in every row, not taken from
    OMP_NUM_THREADS, which Ray sets to the task's CPUs.
    `gpu_memory_mib`: TensorFlow's limit on a shared GPU. None: if `gpu_frac` is below 1, that
    fraction of the memory that nvidia-smi reports; otherwise TensorFlow grows as it needs.
    """
    global _configured
    if _configured is not None:
        return _configured
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _stderr_withheld() as withheld:
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        # If a GPU was assigned and TensorFlow does not see it, its messages say why.
        withheld.shown = not gpus and os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "-1")

    # Whatever the user's keras.json says.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    # Grappler's meta optimizer rewrites arithmetic: attacks' distances would differ from the eager
    # reference by up to 6e-5.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if not gpus:
        _configured = "cpu"
        return _configured
    if gpu_memory_mib is None and gpu_frac < 1:
        gpu_memory_mib = _memory_share_mib(gpu_frac)
    for gpu in gpus:
        if gpu_memory_mib is None:
            tf.config.experimental.set_memory_growth(gpu, True)
        else:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=gpu_memory_mib)
            tf.config.set_logical_device_configuration(gpu, [limit])
    # Kernels are deterministic on a CPU with a fixed number of threads; on a GPU they are not.
    tf.config.experimental.enable_op_determinism()
    details = tf.config.experimental.get_device_details(gpus[0])
    _configured = str(details.get("device_name", "gpu"))
    return _configured


def device_name() -> str:
    """The model of the GPU or CPU in use: CPUs differ in speed as GPUs do."""
    if _configured not in (None, "cpu"):
        return str(_configured)
    return _cpu_name()


def device_without_tensorflow(*, gpu: bool) -> str | None:
    """As `device_name` calls what a task that takes a GPU, or none, computes on here. None where
    nvidia-smi knows no GPU."""
    if not gpu:
        return _cpu_name()
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        return answer.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine() or "CPU"


def _cpuinfo(*names: str) -> str:
    """The first line of one of these names; "" where there is none."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() in names and value.strip():
                return value.strip()
    return ""


#: What decides which of its kernels a library on a CPU takes, widest first.
_VECTORS = ("avx512f", "avx2", "avx", "asimd")


def arithmetic() -> str:
    """What the last bits of a result depend on beside device and threads: on a CPU oneDNN, which
    TF_ENABLE_ONEDNN_OPTS or the CPU switches, and the widest vectors; on a GPU TF32."""
    if _configured not in (None, "cpu"):
        import tensorflow as tf

        allowed = os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
        enabled = tf.config.experimental.tensor_float_32_execution_enabled()
        return "TF32" if allowed and enabled else "FP32"
    try:
        from tensorflow.python.util import _pywrap_util_port  # there is no public one

        library = "oneDNN" if _pywrap_util_port.IsMklEnabled() else "Eigen"
    except (ImportError, AttributeError):
        library = f"oneDNN {os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'by default')}"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    flags = set(_cpuinfo("flags", "Features").split())
    vectors = next((name for name in _VECTORS if name in flags), platform.machine())
    return " ".join(filter(None, (library, vectors, limit)))


#: The usable part of a process's share: CUDA itself takes some hundred MiB beside the limit.
_USABLE_FRAC = 0.85


def _memory_share_mib(frac: float) -> int | None:
    """A fraction of the smallest visible GPU's memory; None where nvidia-smi does not report it."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        query.append(f"--id={visible}")
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        total_mib = min(float(line) for line in answer.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return int(total_mib * frac * _USABLE_FRAC)


class _Withheld:
    shown = True  #: written to standard error in the end; also where the import fails


@contextlib.contextmanager
def _stderr_withheld() -> Iterator[_Withheld]:
    """Hold back what TensorFlow's libraries write to standard error while they load;
    TF_CPP_MIN_LOG_LEVEL does not silence it."""
    withheld = _Withheld()
    sys.stderr.flush()
    try:
        before = os.dup(2)
    except OSError:  # no standard error to hold back
        yield withheld
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield withheld
        finally:
            os.dup2(before, 2)
            os.close(before)
            if withheld.shown:
                held.seek(0)
                os.write(2, held.read())

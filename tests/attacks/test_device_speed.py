from __future__ import annotations

import json

import numpy as np
import pytest

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.task_sizes import probes_of
from prunegrid.orchestrator.store.forecast_inputs import model_here, speeds_here
from prunegrid.workers.attacks.runtime import device_speed
from prunegrid.workers.attacks.runtime.device_speed import measure_speed
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.entry import REAL_RUNNER
from prunegrid.workers.speeds import Probe
from tests.attacks.conftest import settings
from tests.grids import SMALL

pytestmark = pytest.mark.tf


PROBE = Probe(architecture="cnn5", dataset="mnist5k")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_it_is_measured_once_and_kept(cnn5, tmp_path):
    first = measure_speed(cnn5, PROBE, sizes=(16, 32), seconds=0.01)
    assert (first.probe, first.sizes, first.threads) == (PROBE, (16, 32), 1)
    assert min(first.passes_per_s) > 0
    assert min(first.forward_per_s) > 0
    assert first.trained_per_s > 0
    (path,) = (tmp_path / "prunegrid").iterdir()
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"passes_per_s": [1.0, 2.0]}))
    again = measure_speed(cnn5, PROBE, sizes=(16, 32), seconds=0.01)
    assert again.passes_per_s == (1.0, 2.0)
    path.write_text("torn")
    assert measure_speed(cnn5, PROBE, sizes=(16, 32), seconds=0.01).passes_per_s != (1.0, 2.0)


def test_the_runner_measures_what_it_is_asked_for(tmp_path):
    settings = WorkerSettings(store="", data_dir=None, threads=1, gpu_memory_mib=None)
    (found,) = REAL_RUNNER.measure([PROBE], settings)
    assert found.probe == PROBE
    assert found.sizes[0] == 16
    assert found == REAL_RUNNER.measure([PROBE], settings)[0], "the second time from the cache"
    unknown = Probe(architecture="cnn6", dataset="mnist5k")
    assert "cnn6" in REAL_RUNNER.measure([unknown], settings)


def test_plan_finds_what_was_measured_here():
    """By names alone, without TensorFlow."""
    plan = expand(parse_grid(SMALL, source="test"))
    assert speeds_here(plan) == ()
    settings = WorkerSettings(store="", data_dir=None, threads=1, gpu_memory_mib=None)
    measured = REAL_RUNNER.measure(probes_of(plan), settings)
    assert speeds_here(plan) == measured
    task = next(task for task in plan.tasks.values() if task.kind == "train")
    assert 0.01 < model_here(plan).seconds(task) < 100


def test_sizes_that_do_not_fit_are_left_out(cnn5, monkeypatch):
    import tensorflow as tf

    from prunegrid.workers.attacks.runtime.network import Network

    inner = Network.margin_and_gradient

    def tight(self):
        look = inner(self)

        def limited(images, labels):
            if len(images) > 16:
                raise tf.errors.ResourceExhaustedError(None, None, "no memory")
            return look(images, labels)

        return limited

    monkeypatch.setattr(Network, "margin_and_gradient", tight)
    assert measure_speed(cnn5, PROBE, sizes=(16, 32, 64), seconds=0.01).sizes == (16,)


def test_even_one_batch_must_fit(cnn5, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(device_speed, "_speed", lambda network, size, seconds, **more: 0.0)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="not even 16 images"):
        measure_speed(cnn5, PROBE, sizes=(16, 32))


def test_slow_networks_are_not_asked_for_ever_larger_batches(cnn5, monkeypatch):
    asked = []
    monkeypatch.setattr(
        device_speed, "_speed", lambda network, size, s, **more: asked.append(size) or 20.0
    )
    assert measure_speed(cnn5, PROBE).sizes == (16, 32)
    assert asked == [16, 32] * 2, (
        "forward and back, and forward; a call of 32 images takes more than a second"
    )


def test_the_best_of_several_turns_counts(cnn5, monkeypatch):
    """Another process may take the machine during any of them."""
    both, forward = [100.0, 10.0, 100.0, 200.0, 90.0, 210.0], [400.0, 500.0] * 3
    speeds = iter(both + forward)
    monkeypatch.setattr(device_speed, "_speed", lambda network, size, seconds, **more: next(speeds))
    monkeypatch.setattr(device_speed, "LONGEST_CALL_S", 10.0)
    found = measure_speed(cnn5, PROBE, sizes=(16, 32))
    assert (found.passes_per_s, found.forward_per_s) == ((100.0, 210.0), (400.0, 500.0))


@pytest.fixture
def a_gpu(monkeypatch):
    """TensorFlow says that there is one; how fast it is, is the test's to say."""
    import tensorflow as tf

    speeds, asked = {False: 100.0, True: 100.0}, []

    def speed(network, size, seconds):
        asked.append((network.xla, size))
        return speeds[network.xla]

    listed = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: ["gpu"] if kind == "GPU" else listed()
    )
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {})
    monkeypatch.setattr(device_speed, "_speed", speed)
    monkeypatch.setattr(device_speed, "_CHOSEN", {})
    return speeds, asked


@pytest.mark.parametrize(("fused", "pays"), [(160.0, True), (104.0, False), (0.0, False)])
def test_xla_is_taken_where_it_pays_and_measured_once(cnn5, a_gpu, monkeypatch, fused, pays):
    from prunegrid.workers.attacks.runtime.shard import uses_xla

    speeds, asked = a_gpu
    speeds[True] = fused
    assert uses_xla(cnn5, settings("cw_l2", "strict", batch_size=60)) is pays
    assert asked == [(False, 64), (True, 64)]
    assert not uses_xla(cnn5, settings("cw_l2", "foolbox")), "Foolbox does without"
    speeds[True] = 0.0 if pays else 1e9  # measured otherwise later: what is kept stands
    assert uses_xla(cnn5, settings("cw_l2", "strict", batch_size=64)) is pays
    monkeypatch.setattr(device_speed, "_CHOSEN", {})
    assert uses_xla(cnn5, settings("pgd_linf", "strict", batch_size=64)) is pays
    assert len(asked) == 2
    assert uses_xla(cnn5, settings("cw_l2", "strict", batch_size=128)) is (speeds[True] > 105)


def test_a_cpu_never_takes_xla(cnn5, monkeypatch):
    monkeypatch.setattr(device_speed, "_speed", lambda *a: pytest.fail("nothing is measured"))
    assert not device_speed.xla_is_faster(cnn5)


@pytest.mark.usefixtures("_configured")
@pytest.mark.parametrize("name", ["pgd_linf", "cw_l2", "bb_l0"])
def test_strict_attacks_compile_by_xla(shard, images, monkeypatch, name):
    """On a network of one layer, which compiles fast."""
    import keras

    from prunegrid.workers.attacks.runtime import shard as run

    keras.utils.set_random_seed(2)
    flat = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential(flat)
    labels = model.predict(images.test[:10], verbose=0).argmax(axis=1)
    use = settings(
        name, "strict", eps=(0.01,) if name == "pgd_linf" else (),
        options={"steps": 8} | ({"binary_search_steps": 2} if name == "cw_l2" else {}),
    )  # fmt: skip
    plain = np.array(shard(model, use, 0, 10, labels=labels)["distance"])
    asked = []
    monkeypatch.setattr(run, "uses_xla", lambda model, given: not asked.append(given))
    fused = np.array(shard(model, use, 0, 10, labels=labels)["distance"])
    assert asked == [use]
    assert np.isfinite(plain).any()
    np.testing.assert_allclose(fused, plain, rtol=0.01)

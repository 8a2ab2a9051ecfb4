from __future__ import annotations

import json

import numpy as np
import pytest

from tests.attacks.conftest import settings
from workers.attacks.measure import BatchMeasure, measure_batch

pytestmark = [pytest.mark.tf, pytest.mark.xdist_group("attacks")]


def test_the_smallest_batch_that_no_larger_one_clearly_beats():
    flat = BatchMeasure(sizes=(16, 32, 64), images_per_s=(100.0, 104.0, 103.0))
    rising = BatchMeasure(sizes=(16, 32, 64), images_per_s=(100.0, 150.0, 152.0))
    assert flat.best == 16
    assert rising.best == 32


def test_it_is_measured_once_and_kept(cnn5, tmp_path):
    first = measure_batch(cnn5, sizes=(16, 32), seconds=0.01, cache_dir=tmp_path)
    assert first.sizes == (16, 32)
    assert min(first.images_per_s) > 0
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({"sizes": [16, 32], "images_per_s": [1.0, 2.0]}))
    again = measure_batch(cnn5, sizes=(16, 32), seconds=0.01, cache_dir=tmp_path)
    assert again.images_per_s == (1.0, 2.0)
    path.write_text("torn")
    assert measure_batch(cnn5, sizes=(16, 32), seconds=0.01, cache_dir=tmp_path).best in (16, 32)


def test_sizes_that_do_not_fit_are_left_out(cnn5, tmp_path, monkeypatch):
    import tensorflow as tf

    from workers.attacks.network import Network

    inner = Network.margin_and_gradient

    def tight(self):
        look = inner(self)

        def limited(images, labels):
            if len(images) > 16:
                raise tf.errors.ResourceExhaustedError(None, None, "no memory")
            return look(images, labels)

        return limited

    monkeypatch.setattr(Network, "margin_and_gradient", tight)
    found = measure_batch(cnn5, sizes=(16, 32, 64), seconds=0.01, cache_dir=tmp_path)
    assert found.sizes == (16,)


def test_even_one_batch_must_fit(cnn5, tmp_path, monkeypatch):
    import tensorflow as tf

    from workers.attacks import measure

    monkeypatch.setattr(measure, "_speed", lambda network, size, seconds: 0.0)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="not even 16 images"):
        measure_batch(cnn5, sizes=(16, 32), cache_dir=tmp_path)


@pytest.fixture
def a_gpu(monkeypatch, tmp_path):
    """TensorFlow says that there is one; how fast it is, is the test's to say."""
    import tensorflow as tf

    from workers.attacks import measure

    speeds, asked = {False: 100.0, True: 100.0}, []

    def speed(network, size, seconds):
        asked.append((network.xla, size))
        return speeds[network.xla]

    listed = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: ["gpu"] if kind == "GPU" else listed()
    )
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {})
    monkeypatch.setattr(measure, "_speed", speed)
    monkeypatch.setattr(measure, "_CHOSEN", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return speeds, asked


@pytest.mark.parametrize(("fused", "pays"), [(160.0, True), (104.0, False), (0.0, False)])
def test_xla_is_taken_where_it_pays_and_measured_once(cnn5, a_gpu, monkeypatch, fused, pays):
    from workers.attacks import measure
    from workers.attacks.run import uses_xla

    speeds, asked = a_gpu
    speeds[True] = fused
    assert uses_xla(cnn5, settings("cw_l2", "strict", batch_size=60)) is pays
    assert asked == [(False, 64), (True, 64)]
    assert not uses_xla(cnn5, settings("cw_l2", "foolbox")), "Foolbox does without"
    speeds[True] = 0.0 if pays else 1e9  # measured otherwise later: what is kept stands
    assert uses_xla(cnn5, settings("cw_l2", "strict", batch_size=64)) is pays
    monkeypatch.setattr(measure, "_CHOSEN", {})
    assert uses_xla(cnn5, settings("pgd_linf", "strict", batch_size=64)) is pays
    assert len(asked) == 2
    assert uses_xla(cnn5, settings("cw_l2", "strict", batch_size=128)) is (speeds[True] > 105)


def test_a_cpu_never_takes_xla(cnn5, monkeypatch):
    from workers.attacks import measure

    monkeypatch.setattr(measure, "_speed", lambda *a: pytest.fail("nothing is measured"))
    assert not measure.xla_pays(cnn5)


@pytest.mark.usefixtures("_configured")
@pytest.mark.parametrize("name", ["pgd_linf", "cw_l2", "bb_l0"])
def test_strict_attacks_compile_by_xla(shard, images, monkeypatch, name):
    """On a network of one layer, which compiles fast."""
    import keras

    from workers.attacks import run

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

from __future__ import annotations

import json

import pytest

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

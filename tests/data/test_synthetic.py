"""Made-up images: the same every time, and learnable."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from prunegrid.workers.data.synthetic import read_28, read_32

#: Frozen: other pixels would be another data set under the same fingerprint.
FROZEN = {read_28: "0568e91872eda00c", read_32: "bbfa3754e43db0de"}


@pytest.mark.parametrize("read", FROZEN)
def test_the_pixels_are_frozen(read):
    raw = read(None)
    joined = raw.train_images.tobytes() + raw.test_images.tobytes()
    labels = np.concatenate([raw.train_labels, raw.test_labels]).astype(np.int32).tobytes()
    assert hashlib.sha256(joined + labels).hexdigest()[:16] == FROZEN[read]


@pytest.mark.parametrize("read", FROZEN)
def test_the_nearest_class_mean_recognises_them(read):
    raw = read(None)
    train = raw.train_images.reshape(len(raw.train_images), -1).astype(float)
    means = np.stack([train[raw.train_labels == label].mean(axis=0) for label in range(10)])
    test = raw.test_images.reshape(len(raw.test_images), 1, -1).astype(float)
    nearest = np.square(test - means).sum(axis=2).argmin(axis=1)
    assert np.mean(nearest == raw.test_labels) > 0.95

"""MNIST, CIFAR-10 and Imagenette: the real reading code on made-up examples, and no network."""

from __future__ import annotations

import dataclasses
import socket
import time

import numpy as np
import pytest

from workers import catalog
from workers.catalog import DATASETS
from workers.data import tfds_sets
from workers.data.base import DataUnavailable, prepare

pytestmark = pytest.mark.tf

NAMES = [name for name, entry in DATASETS.items() if "tfds" in entry.target]
EXAMPLES = 6


@pytest.fixture
def mocked(monkeypatch):
    """tensorflow-datasets with six made-up examples a split; nothing to download."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds_sets, "_online", lambda: True)
    with tfds.testing.mock_data(num_examples=EXAMPLES):
        yield tfds


@pytest.mark.parametrize("name", NAMES)
def test_prepared_from_the_source(name, mocked, tmp_path):
    entry = dataclasses.replace(DATASETS[name], train_images=EXAMPLES, test_images=EXAMPLES)
    folder = prepare(entry, tmp_path)
    for part in ("train", "test"):
        images = np.load(folder / f"{part}_images.npy")
        assert images.shape == (EXAMPLES, *entry.shape)
        assert images.dtype == np.uint8
        assert images.std() > 10  # no blank images
        labels = np.load(folder / f"{part}_labels.npy")
        assert labels.dtype == np.int32
        assert len(labels) == EXAMPLES
    made = (folder / "train_images.npy").stat().st_mtime_ns
    assert prepare(entry, tmp_path) == folder
    assert (folder / "train_images.npy").stat().st_mtime_ns == made


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_pixels_and_labels_are_the_sources(name, mocked, tmp_path):
    raw = catalog.load(DATASETS[name].target)(tmp_path)
    source = list(mocked.as_numpy(mocked.load(name, split="train", as_supervised=True)))
    np.testing.assert_array_equal(raw.train_images, np.stack([image for image, _ in source]))
    assert raw.train_labels.tolist() == [int(label) for _, label in source]


def bilinear(image: np.ndarray, side: int) -> np.ndarray:
    """By the definition: pixel centres at half integers, edges repeated."""
    for axis in (0, 1):
        size = image.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, size - 1)
        below, above = np.take(image, low, axis), np.take(image, high, axis)
        image = below * (1 - weight) + above * weight
    return image


def test_imagenette_is_resized_whatever_its_size(mocked, tmp_path):
    """Bilinear, the whole image, aspect not kept."""
    raw = tfds_sets.read_imagenette(tmp_path)
    source = list(
        mocked.as_numpy(mocked.load("imagenette/full-size-v2", split="train", as_supervised=True))
    )
    assert len({image.shape for image, _ in source}) > 1
    for ours, (image, _) in zip(raw.train_images, source, strict=True):
        expected = bilinear(image.astype(np.float64), 224)
        assert np.abs(ours - expected).max() <= 0.51  # rounded to a pixel value


@pytest.mark.parametrize("name", NAMES)
def test_counts_other_than_the_catalogs_are_refused(name, mocked, tmp_path):
    with pytest.raises(DataUnavailable, match=f"{name}: expected .*{DATASETS[name].train_images}"):
        prepare(DATASETS[name], tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_network_it_fails_once_and_soon(name, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(tfds_sets, "_PROBE", closed.getsockname())
        monkeypatch.setattr(tfds_sets, "getproxies", dict)
        started = time.monotonic()
        with pytest.raises(DataUnavailable, match=r"is not in .* and there is no network"):
            prepare(DATASETS[name], tmp_path)
        assert time.monotonic() - started < 10


def test_a_failed_download_says_why(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(self, **options):
        raise ConnectionError("the mirror is gone")

    monkeypatch.setattr(tfds_sets, "_online", lambda: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(DataUnavailable, match=r"mnist:3\.0\.1 can't be downloaded: the mirror"):
        prepare(DATASETS["mnist"], tmp_path)


def test_a_proxy_counts_as_a_network(monkeypatch):
    with socket.socket() as server, socket.socket() as closed:
        server.bind(("127.0.0.1", 0))
        server.listen()
        closed.bind(("127.0.0.1", 0))
        host, port = server.getsockname()
        monkeypatch.setattr(tfds_sets, "_PROBE", closed.getsockname())
        monkeypatch.setattr(tfds_sets, "getproxies", lambda: {"https": f"http://{host}:{port}"})
        assert tfds_sets._online()
        monkeypatch.setattr(tfds_sets, "getproxies", dict)
        assert not tfds_sets._online()

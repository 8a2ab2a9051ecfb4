"""MNIST, CIFAR-10 and Imagenette: the real reading code on made-up examples, and no network."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest

from prunegrid.workers.catalog import DATASETS
from prunegrid.workers.data import tfds_sets
from prunegrid.workers.data.base import prepare, read
from prunegrid.workers.data.raw_dataset import DataUnavailable
from prunegrid.workers.user_code import UserCode

pytestmark = pytest.mark.tf

NAMES = [name for name, entry in DATASETS.items() if "tfds" in entry.reader.target]
EXAMPLES = 6


@pytest.fixture
def mocked(monkeypatch):
    """tensorflow-datasets with six made-up examples a split; nothing to download."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds_sets, "unreachable", lambda url: None)
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
    raw = read(DATASETS[name].reader, tmp_path)
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


@pytest.fixture
def direct(monkeypatch):
    """Whatever proxies this machine has, requests go straight to their hosts."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class Answers(BaseHTTPRequestHandler):
    """Says 404 to anything; as a proxy, lets no encrypted connection through."""

    def do_GET(self) -> None:
        Answers.asked.append(self.path)
        self.send_response(404)
        self.end_headers()

    asked: ClassVar[list[str]] = []

    def do_CONNECT(self) -> None:
        self.send_error(403, "Not on the list")

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_without_a_network_it_fails_once_and_soon(name, tmp_path, monkeypatch, direct, closed_port):
    import tensorflow_datasets as tfds

    dead = f"http://127.0.0.1:{closed_port}/images.tgz"
    real, sources = vars(tfds.core.DatasetBuilder)["url_infos"], set()

    def moved(builder):
        sources.update(real.__get__(None, type(builder)))
        return {dead: None}

    monkeypatch.setattr(tfds.core.DatasetBuilder, "url_infos", property(moved))
    started = time.monotonic()
    with pytest.raises(
        DataUnavailable, match=rf"^can't fetch {name}.* from {dead}: .*refused.*--data-dir"
    ):
        prepare(DATASETS[name], tmp_path)
    assert time.monotonic() - started < 10
    assert sources
    assert {source.partition("://")[0] for source in sources} <= {"http", "https"}


def test_any_answer_is_one(server, direct, closed_port):
    assert tfds_sets.unreachable(f"{server}/gone") is None
    assert "refused" in str(tfds_sets.unreachable(f"http://127.0.0.1:{closed_port}/"))


def test_a_proxy_is_used_and_one_that_refuses_is_no_network(server, direct, monkeypatch):
    monkeypatch.setenv("https_proxy", server)
    assert "403 Not on the list" in str(tfds_sets.unreachable("https://images.invalid/train.tgz"))
    monkeypatch.setenv("http_proxy", server)
    assert tfds_sets.unreachable("http://images.invalid/train.tgz") is None
    assert Answers.asked[-1] == "http://images.invalid/train.tgz"


@pytest.mark.parametrize("silent", ["host", "name server"])
def test_silence_has_a_limit(silent, direct, monkeypatch):
    released = threading.Event()

    def never_answer(*args, **rest):
        released.wait(30)
        raise socket.gaierror("released")

    with socket.socket() as quiet:
        quiet.bind(("127.0.0.1", 0))
        quiet.listen()
        url = f"http://127.0.0.1:{quiet.getsockname()[1]}/"
        if silent == "name server":
            monkeypatch.setattr(socket, "getaddrinfo", never_answer)
        started = time.monotonic()
        reason = tfds_sets.unreachable(url, answer_s=0.3)
        assert reason is not None
        assert "no answer" in reason or "timed out" in reason  # whichever limit came first
        assert time.monotonic() - started < 5
    released.set()


def test_a_failed_download_says_why(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(self, **options):
        raise ConnectionError("the mirror is gone")

    monkeypatch.setattr(tfds_sets, "unreachable", lambda url: None)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(DataUnavailable, match=r"mnist:3\.0\.1 can't be downloaded: the mirror"):
        prepare(DATASETS["mnist"], tmp_path)


# --------------------------------------------------------------------------- any other set


def own(name: str, **options) -> UserCode:
    given = {"name": name, **options}
    return UserCode(
        target="prunegrid.workers.data.tfds_sets:read_tfds", options=tuple(sorted(given.items()))
    )


@pytest.fixture
def splits(monkeypatch):
    """What a set says of its splits; the made-up examples have every name."""

    def have(*names: str) -> None:
        monkeypatch.setattr(tfds_sets, "_splits", lambda builder: list(names))

    return have


def test_any_set_is_read_by_its_name(mocked, splits, tmp_path):
    splits("train", "test")
    raw = read(own("horses_or_humans"), tmp_path)
    assert raw.class_names == ("horses", "humans")
    source = list(
        mocked.as_numpy(mocked.load("horses_or_humans", split="train", as_supervised=True))
    )
    assert raw.train_images.shape == (EXAMPLES, 300, 300, 3)
    both = {(x.tobytes(), int(y)) for x, y in zip(raw.train_images, raw.train_labels, strict=True)}
    assert both == {(x.tobytes(), int(y)) for x, y in source}


def test_images_of_several_sizes_are_resized_and_split(mocked, splits, tmp_path):
    splits("train")
    with pytest.raises(DataUnavailable, match=r"different sizes; 'size: \[height, width\]'"):
        read(own("cats_vs_dogs"), tmp_path)
    raw = read(own("cats_vs_dogs", height=20, width=30), tmp_path)
    assert raw.train_images.shape[1:] == (20, 30, 3)
    assert len(raw.train_labels) + len(raw.test_labels) == EXAMPLES
    assert set(raw.test_labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("horses_or_human", "no set 'horses_or_human'"),
        ("iris", "a set of images and class labels, got iris"),
    ],
)
def test_a_set_that_is_none_or_has_no_images_is_refused(name, words, mocked, tmp_path):
    with pytest.raises(DataUnavailable, match=words):
        read(own(name), tmp_path)

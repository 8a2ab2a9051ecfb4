"""Images of a store that anyone may have written: seen, never executed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from prunegrid.orchestrator.dashboard.pictures import amplified, picture, samples
from prunegrid.workers import layout
from prunegrid.workers.checkpoints import pack
from prunegrid.workers.files import LocalFiles

KEY = "attack-" + "0" * 20


def image(seed: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((5, 7, channels)).astype(np.float16)


def stored(folder, arrays) -> LocalFiles:
    files = LocalFiles(folder)
    files.write(layout.adversarials(KEY), pack(arrays))
    return files


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_image_its_original_and_what_changed(tmp_path, channels):
    clean = np.full((5, 7, channels), 0.5, dtype=np.float16)
    adversarial = clean.copy()
    adversarial[0, 0], adversarial[1, 1] = 0.75, 0.375
    files = stored(tmp_path, {"12": adversarial, "clean.12": clean, "3": clean})
    assert [(one.image, one.has_clean) for one in samples(files, KEY)] == [(3, False), (12, True)]
    shape = (5, 7) if channels == 1 else (5, 7, channels)
    found = pixels(picture(files, KEY, 1, "adversarial"))
    assert found.shape == shape
    assert (np.unique(found).tolist()) == [96, 128, 191]
    assert np.unique(pixels(picture(files, KEY, 1, "clean"))).tolist() == [128]
    change = pixels(picture(files, KEY, 1, "perturbation"))
    assert np.unique(change).tolist() == [64, 128, 255], "the largest change is white or black"
    with pytest.raises(FileNotFoundError, match="not kept"):
        picture(files, KEY, 0, "clean")


def test_no_change_is_grey():
    assert (amplified(np.zeros((2, 2, 1), np.float32)) == 0.5).all()


@pytest.mark.parametrize("index", [-1, 2, 10**6])
def test_there_is_no_other_image(tmp_path, index):
    files = stored(tmp_path, {"1": image(0), "2": image(1)})
    with pytest.raises(FileNotFoundError, match="2 images"):
        picture(files, KEY, index, "adversarial")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_is_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sink = io.BytesIO()
    np.savez(sink, **{"1": np.array([Bomb()], dtype=object)})
    files = LocalFiles(tmp_path)
    for content in (sink.getvalue(), pickle.dumps(Bomb())):
        files.write(layout.adversarials(KEY), content)
        with pytest.raises(ValueError, match=r"torn|allow_pickle"):
            picture(files, KEY, 0, "adversarial")
    assert not (tmp_path / "exploded").exists()


def test_what_would_fill_the_memory_is_refused(tmp_path):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        plain = io.BytesIO()
        np.save(plain, np.zeros((7, 1024, 1024), np.float32))
        archive.writestr("1.npy", plain.getvalue())
    files = LocalFiles(tmp_path)
    files.write(layout.adversarials(KEY), sink.getvalue())
    with pytest.raises(ValueError, match="larger than any image"):
        picture(files, KEY, 0, "adversarial")


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2)), np.zeros((2, 2, 2)), np.zeros((0, 2, 3)), np.full((2, 2, 1), "x")],
    ids=["flat", "two channels", "empty", "text"],
)
def test_what_is_no_image_is_refused(tmp_path, array):
    with pytest.raises(ValueError, match="expected"):
        picture(stored(tmp_path, {"1": array}), KEY, 0, "adversarial")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"x" * 100])
def test_a_torn_file_is_refused(tmp_path, content):
    files = LocalFiles(tmp_path)
    files.write(layout.adversarials(KEY), content)
    with pytest.raises(ValueError, match="torn"):
        picture(files, KEY, 0, "adversarial")


def test_numbers_that_are_none_are_drawn_all_the_same(tmp_path):
    wild = np.array([np.nan, np.inf, -np.inf, 7, -7, 0.5], np.float32).reshape(2, 3, 1)
    found = pixels(picture(stored(tmp_path, {"1": wild}), KEY, 0, "adversarial"))
    assert found.tolist() == [[0, 255, 0], [255, 0, 128]]


def test_a_name_that_is_no_task_is_no_path(tmp_path):
    assert samples(LocalFiles(tmp_path), "../../etc/passwd") == []

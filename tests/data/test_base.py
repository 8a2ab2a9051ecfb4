"""Data sets as tasks get them: every catalog entry, through the real loading code."""

from __future__ import annotations

import dataclasses
import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from prunegrid.workers.catalog import DATASETS
from prunegrid.workers.contract import DataSettings
from prunegrid.workers.data import base
from prunegrid.workers.data.base import check, load, prepare
from prunegrid.workers.data.raw_dataset import DataUnavailable, RawDataset
from prunegrid.workers.user_code import UserCode

LOCAL = [name for name, entry in DATASETS.items() if "tfds" not in entry.reader.target]
SMALL = DATASETS["synthetic28"]


def settings(name: str, **changes) -> DataSettings:
    values = {"validation_frac": 0.1, "train_images": None, **changes}
    return DataSettings(dataset=name, fingerprint=DATASETS[name].fingerprint, **values)


@pytest.mark.parametrize("name", LOCAL)
def test_an_entry_keeps_its_word(name, data_dir):
    entry, dataset = DATASETS[name], load(settings(name), str(data_dir))
    assert len(dataset.train) + len(dataset.validation) == entry.train_images
    assert len(dataset.validation) == round(entry.train_images / 10)
    assert len(dataset.test) == entry.test_images
    for part in ("train", "validation", "test"):
        split = dataset.split(part)
        assert split.images.shape[1:] == entry.shape
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert len(split.images) == len(split.labels)
        # No source is left sorted by class: an even draw of 40 has all ten but one or two.
        assert len(set(split.labels.tolist())) > entry.classes * 0.75
        floats = split.floats(2, 5)
        assert floats.shape == (3, *entry.shape)
        assert floats.dtype == np.float32
        assert 0 <= floats.min() < floats.max() <= 1
        np.testing.assert_array_equal(np.round(floats * 255), split.images[2:5])


def test_splits_do_not_overlap_and_come_in_the_readers_order(data_dir):
    raw, dataset = SMALL.reader.load()(None), load(settings(SMALL.name), str(data_dir))
    joined = np.concatenate([dataset.train.images, dataset.validation.images])
    np.testing.assert_array_equal(joined, raw.train_images)
    np.testing.assert_array_equal(dataset.test.images, raw.test_images)
    np.testing.assert_array_equal(dataset.test.labels, raw.test_labels)


def test_fewer_training_images_leave_the_test_split_alone(data_dir):
    dataset = load(settings(SMALL.name, train_images=50), str(data_dir))
    assert (len(dataset.train), len(dataset.validation)) == (45, 5)
    assert len(dataset.test) == SMALL.test_images


def test_arrays_are_memory_mapped(data_dir):
    assert isinstance(load(settings("mnist5k"), str(data_dir)).train.images.base, np.memmap)


def test_loaded_once_per_process(data_dir):
    assert load(settings(SMALL.name), str(data_dir)) is load(settings(SMALL.name), str(data_dir))


def counting_reader(folder):
    with (folder / "calls").open("a") as file:
        file.write("x")
    return SMALL.reader.load()(folder)


COUNTED = dataclasses.replace(SMALL, reader=UserCode(target="tests.data.test_base:counting_reader"))


def _prepare(folder) -> str:
    return str(prepare(COUNTED, folder))


def test_two_processes_prepare_it_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.map(_prepare, [tmp_path] * 4, chunksize=1)
    assert len(set(folders)) == 1
    assert (tmp_path / "calls").read_text() == "x"


def test_threads_prepare_it_once(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(_prepare, [tmp_path] * 4))) == 1
    assert (tmp_path / "calls").read_text() == "x"


def test_a_half_made_folder_is_made_again(tmp_path):
    folder = prepare(COUNTED, tmp_path)
    (folder / "ready.json").unlink()
    (folder / "test_labels.npy").write_bytes(b"torn")
    assert prepare(COUNTED, tmp_path) == folder
    assert len(np.load(folder / "test_labels.npy")) == SMALL.test_images


def test_a_failed_reader_leaves_nothing_behind(tmp_path):
    short = dataclasses.replace(SMALL, train_images=401)
    with pytest.raises(DataUnavailable, match=r"expected uint8 train images of \(401, 28, 28, 1\)"):
        prepare(short, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_data_folder_that_can_not_be_written_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataUnavailable, match=f"can't prepare synthetic28 in {tmp_path}/file"):
        prepare(SMALL, tmp_path / "file")


def test_an_unknown_name_is_refused(data_dir):
    task = dataclasses.replace(settings(SMALL.name), dataset="minst")
    with pytest.raises(ValueError, match=r"expected one of mnist.*got 'minst'"):
        load(task, str(data_dir))


def test_a_task_about_other_bytes_is_refused(data_dir):
    task = dataclasses.replace(settings(SMALL.name), fingerprint="synthetic:28x28x1/0")
    with pytest.raises(
        DataUnavailable, match=f"needs {task.fingerprint}, .* has {SMALL.fingerprint}"
    ):
        load(task, str(data_dir))


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEGRID_DATA_DIR", str(tmp_path))
    assert base.default_data_dir() == tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((400, 28, 28, 1), np.float32)}, "got float32"),
        ({"test_images": np.zeros((200, 28, 28), np.uint8)}, r"got uint8 \(200, 28, 28\)"),
        ({"test_labels": np.full(200, 10)}, r"expected 200 test labels in 0..9, got .* 10..10"),
        ({"train_labels": np.full(400, -1)}, r"in -1..-1"),
        ({"train_labels": np.zeros(399, int)}, r"got \(399,\)"),
    ],
)
def test_a_reader_that_breaks_its_word_is_caught(changes, message):
    raw: RawDataset = SMALL.reader.load()(None)
    check(raw, SMALL)
    with pytest.raises(DataUnavailable, match=message):
        check(dataclasses.replace(raw, **changes), SMALL)


@pytest.mark.parametrize("damage", ["cut short", "gone", "another's"])
def test_damaged_prepared_files_are_named_and_can_be_prepared_again(damage, tmp_path):
    folder = prepare(SMALL, tmp_path)
    path = folder / "train_images.npy"
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "gone":
        path.unlink()
    else:
        np.save(path, np.zeros((399, 28, 28, 1), np.uint8))
    with pytest.raises(DataUnavailable, match=f"in {folder} is damaged .*remove that folder"):
        load(settings(SMALL.name), str(tmp_path))
    shutil.rmtree(folder)
    assert len(load(settings(SMALL.name), str(tmp_path)).test) == SMALL.test_images


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    folder = prepare(SMALL, tmp_path)
    (folder / "ready.json").unlink()
    left, others = tmp_path / f".{folder.name}.0f.tmp", tmp_path / ".mnist.0f.tmp"
    left.mkdir()
    others.mkdir()
    assert prepare(SMALL, tmp_path) == folder
    assert not left.exists()
    assert others.exists()

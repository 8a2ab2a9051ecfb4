"""Data sets of one's own in a grid file: what is planned, what is in the keys, what is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid, read_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.plan import keep_grid, load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import Augmentation, task_from_dict, task_to_dict
from prunegrid.workers.data.base import DataUnavailable, load
from tests.data.test_own_sources import arrays
from tests.grids import SMALL

OWN = SMALL.replace("dataset: synthetic28", "dataset: mine").replace(
    "architectures:", "datasets:\n  mine: {npz: digits.npz}\narchitectures:"
)
SHAPE = (13, 16, 3)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """With a data set, and with caches of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PRUNEGRID_DATA_DIR", str(tmp_path / "data"))
    write(tmp_path / "digits.npz")
    return tmp_path


def write(path: Path, **changes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(arrays(train=400, test=30, shape=SHAPE) | changes))


def grid_of(folder: Path, text: str = OWN, name: str = "grid.yaml"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return read_grid(folder / name)


def keys(grid) -> list[str]:
    return list(expand(grid).tasks)


def test_what_is_known_of_it_is_read_from_the_arrays(folder):
    data = grid_of(folder).architectures[0].data
    assert data.own is not None
    assert (data.own.shape, data.own.classes) == (SHAPE, 3)
    assert (data.own.train_images, data.own.test_images) == (400, 30)
    dataset = load(data, None)
    assert [len(dataset.split(p)) for p in ("train", "validation", "test")] == [360, 40, 30]


def test_the_key_follows_the_arrays_and_not_their_name_or_place(folder):
    first = keys(grid_of(folder))
    shutil.copy(folder / "digits.npz", folder / "other.npz")
    assert keys(grid_of(folder, OWN.replace("digits.npz", str(folder / "other.npz")))) == first
    write(folder / "sub/digits.npz")
    assert keys(grid_of(folder / "sub")) == first, "a path is relative to the grid file"
    assert keys(grid_of(folder, OWN.replace("mine", "thine"))) == first
    changed = arrays(train=400, test=30, shape=SHAPE)["x_test"]
    changed[0, 0, 0, 0] ^= 1
    write(folder / "digits.npz", x_test=changed)
    assert not set(keys(grid_of(folder))) & set(first)


def test_a_task_with_it_survives_json(folder):
    for task in expand(grid_of(folder)).tasks.values():
        assert task_from_dict(task_to_dict(task)) == task


def test_a_store_is_read_where_the_data_are_not(folder):
    grid = grid_of(folder)
    store = Store.open_or_create(str(folder / "store"))
    keep_grid(store, grid)
    (folder / "digits.npz").unlink()
    shutil.rmtree(folder / "cache")
    shutil.rmtree(folder / "data")
    assert list(load_plan(store).tasks) == keys(grid)
    with pytest.raises(GridError, match=r"there is no .*digits\.npz"):
        read_grid(folder / "grid.yaml")


def test_a_worker_refuses_arrays_that_changed_since(folder):
    data = grid_of(folder).architectures[0].data
    shutil.rmtree(folder / "data")
    write(folder / "digits.npz", y_test=np.zeros(30, int))
    with pytest.raises(DataUnavailable, match="mine: its arrays have changed since the run was"):
        load(data, None)


def test_a_node_that_lacks_them_says_where_they_are_expected(folder):
    data = grid_of(folder).architectures[0].data
    (folder / "digits.npz").rename(folder / "moved.npz")
    name = data.fingerprint.replace(":", "_")
    with pytest.raises(DataUnavailable, match=rf"there is no file .*\(on .*every node.*{name}"):
        load(dataclasses.replace(data, validation_frac=0.2), str(folder / "elsewhere"))
    shutil.copytree(folder / "data" / name, folder / "elsewhere" / name)
    assert len(load(dataclasses.replace(data, validation_frac=0.2), str(folder / "elsewhere")).test)


def test_a_protocol_may_name_it(folder):
    text = OWN + "protocols: {p: {attack_split: {mine: validation}}}\n"
    assert {a.split for a in grid_of(folder, text).architectures[0].attacks} == {"validation"}


REFUSED = {
    "two sources": ("{npz: digits.npz}", "{npz: a, tfds: b}", 6, ["one of npz", "npz and tfds"]),
    "no source": ("{npz: digits.npz}", "{version: 2}", 6, ["one of npz", "none of them"]),
    "misspelt source": ("{npz: digits.npz}", "{npzz: a}", 6, ["'npzz'", "did you mean 'npz'"]),
    "no mapping": ("{npz: digits.npz}", "digits.npz", 6, ["one of npz, images", "'digits.npz'"]),
    "no file": ("digits.npz", "gone.npz", 6, ["datasets.mine", "there is no", "gone.npz"]),
    "no folder": ("{npz: digits.npz}", "{images: gone}", 6, ["there is no", "gone"]),
    "a key of another source": (
        "{npz: digits.npz}",
        "{npz: digits.npz, size: [8, 8]}",
        6,
        ["npz takes no such key", "images, tfds, huggingface"],
    ),
    "one side": ("{npz: digits.npz}", "{images: d, size: [8]}", 6, ["[height, width], got 1"]),
    "a part of all": ("{npz: digits.npz}", "{images: d, test_frac: 1}", 6, ["between 0 and 1"]),
    "no function": ("{npz: digits.npz}", "{load: data}", 6, ["module:function", "'data'"]),
    "no module": ("{npz: digits.npz}", "{load: 'nowhere:f'}", 6, ["nowhere:f", "no module"]),
    "the catalog's name": ("  mine:", "  mnist:", 6, ["mnist is a data set of the catalog"]),
    "a label with a slash": ("  mine:", "  my/ne:", 6, ["letters, digits", "'my/ne'"]),
    "an unknown label": ("dataset: mine", "dataset: mien", 9, ["'mien'", "did you mean 'mine'"]),
    "an unknown label of a protocol": (
        "name: small",
        "protocols: {p: {attack_split: {mien: test}}}",
        1,
        ["'mien'", "did you mean 'mine'"],
    ),
    "too many images": ("attack_images: 24", "attack_images: 31", 10, ["at most 30", "mine"]),
    "another augmentation": (
        "max_epochs: 2",
        "augmentation: {flip: true, crop: 4}",
        12,
        ["'crop'", "flip, pad"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_source_is_refused_at_its_line(name, folder):
    old, new, line, words = REFUSED[name]
    assert old in OWN
    with pytest.raises(GridError) as refusal:
        grid_of(folder, OWN.replace(old, new, 1))
    message = str(refusal.value)
    assert message.startswith(f"{folder}/grid.yaml:{line}: ")
    for word in words:
        assert word in message


def test_bad_arrays_are_refused_with_the_grid(folder):
    write(folder / "digits.npz", y_train=np.zeros(400))
    with pytest.raises(GridError, match=r":6: datasets\.mine: expected whole numbers from 0 as"):
        grid_of(folder)


def test_images_too_small_for_the_network_are_refused(folder):
    write(folder / "digits.npz", **arrays(train=400, test=30, shape=(11, 30, 1)))
    with pytest.raises(GridError, match=r"at least 12x12, got mine with"):
        grid_of(folder)


def test_a_function_is_asked_again_when_its_version_is_raised(folder, monkeypatch):
    (folder / "their_digits.py").write_text(
        "import pathlib, numpy as np\n"
        "def load(count):\n"
        f"    file = np.load({str(folder / 'digits.npz')!r})\n"
        f"    with open({str(folder / 'calls')!r}, 'a') as calls: calls.write('x')\n"
        "    return {n: file[n][:count] for n in file.files}\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    text = OWN.replace("{npz: digits.npz}", "{load: 'their_digits:load', options: {count: 300}}")
    first = grid_of(folder, text).architectures[0].data
    assert first.own is not None
    assert (first.own.train_images, first.own.test_images) == (300, 30)
    assert grid_of(folder, text).architectures[0].data == first
    assert (folder / "calls").read_text() == "x"
    again = grid_of(folder, text.replace("options:", "version: 2, options:"))
    assert (folder / "calls").read_text() == "xx"
    assert again.architectures[0].data.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("{flip: true, pad: 6}", "flip_crop_6"),
        ("flip_crop_60", "flip_crop_60"),
        ("{flip: true}", "flip"),
        ("{pad: 4}", "crop_4"),
        ("{flip: false, pad: 0}", "none"),
    ],
)
def test_augmentation_by_numbers_has_the_names_of_the_same_work(given, name):
    text = SMALL.replace("max_epochs: 2", f"augmentation: {given}")
    training = parse_grid(text, source="grid.yaml").architectures[0].variants[0].training
    assert training.augmentation == name
    assert Augmentation.named(name).name == name


@pytest.mark.parametrize(
    "name", ["", "crop", "flip_6", "crop_0", "flipcrop_4", "_crop_4", "none_4"]
)
def test_other_names_are_no_augmentation(name):
    with pytest.raises(ValueError, match="flip_crop_6"):
        Augmentation.named(name)

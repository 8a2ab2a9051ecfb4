"""Data sets that a grid brings: each kind of source, and what is refused, with its reason."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunegrid.workers.data.base import read
from prunegrid.workers.data.raw_dataset import NAMES, DataUnavailable, RawDataset, split_off_test
from prunegrid.workers.user_code import UserCode

OURS = "prunegrid.workers.data.own_sources"
SHAPE = (6, 9, 4)


def arrays(classes: int = 3, train: int = 24, test: int = 9, shape=SHAPE) -> dict[str, np.ndarray]:
    """uint8 images of which each differs, not sorted by class, of unequal classes."""
    rng = np.random.default_rng(0)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.concatenate([np.arange(classes), rng.integers(0, 2, n - classes)])
        return rng.integers(0, 256, (n, *shape)).astype(np.uint8), rng.permutation(labels)

    (x, y), (a, b) = part(train), part(test)
    return dict(zip(NAMES, (x, y, a, b), strict=True))


def reader(kind: str, **options) -> UserCode:
    return UserCode(target=f"{OURS}:read_{kind}", options=tuple(sorted(options.items())))


def from_npz(folder: Path, **changes) -> RawDataset:
    path = folder / "digits.npz"
    np.savez(path, **{k: v for k, v in (arrays() | changes).items() if v is not None})
    return read(reader("npz", path=str(path)), folder)


# --------------------------------------------------------------------------- arrays


def test_an_npz_is_read_as_it_is(tmp_path):
    given, raw = arrays(), from_npz(tmp_path)
    for name, array in zip(NAMES, given.values(), strict=True):
        part = {"x": "images", "y": "labels"}[name[0]]
        np.testing.assert_array_equal(getattr(raw, f"{name[2:]}_{part}"), array)
    assert raw.train_images.dtype == np.uint8
    assert raw.train_labels.dtype == np.int32


def test_floats_are_rounded_and_a_channel_is_added(tmp_path):
    x = np.linspace(0, 1, 24 * 6 * 9).reshape(24, 6, 9)
    raw = from_npz(tmp_path, x_train=x, x_test=x[:9].astype(np.float32))
    assert raw.train_images.shape == (24, 6, 9, 1)
    np.testing.assert_array_equal(raw.train_images[..., 0], np.round(x * 255))
    assert raw.train_images.min() == 0
    assert raw.train_images.max() == 255


def test_labels_in_a_column_are_labels(tmp_path):
    assert from_npz(tmp_path, y_train=arrays()["y_train"][:, None]).train_labels.shape == (24,)


def test_a_part_sorted_by_class_is_mixed_in_a_fixed_order(tmp_path):
    given = arrays(train=300)
    order = np.argsort(given["y_train"], kind="stable")
    given |= {"x_train": given["x_train"][order], "y_train": given["y_train"][order]}
    raw, again = from_npz(tmp_path, **given), from_npz(tmp_path, **given)
    assert {0, 1} <= set(raw.train_labels[-60:].tolist()), "the validation images are the last"
    np.testing.assert_array_equal(raw.train_labels, again.train_labels)
    pairs = {(x.tobytes(), int(y)) for x, y in zip(raw.train_images, raw.train_labels, strict=True)}
    assert pairs == {
        (x.tobytes(), int(y)) for x, y in zip(given["x_train"], given["y_train"], strict=True)
    }


REFUSED = {
    "no array": ({"y_test": None}, ["x_train, y_train, x_test and y_test", "y_test is missing"]),
    "floats beyond 1": (
        {"x_train": arrays()["x_train"] / 16.0},
        ["uint8 pixels, or floats from 0 to 1", "float64 from 0 to 15.9375"],
    ),
    "whole numbers of another type": (
        {"x_train": arrays()["x_train"].astype(int)},
        ["digits.npz's x_train", "int64 from 0 to 255"],
    ),
    "NaN": ({"x_train": np.full((24, *SHAPE), np.nan)}, ["floats from 0 to 1", "nan"]),
    "flat images": (
        {"x_train": np.zeros((24, 54), np.uint8)},
        ["[n, height, width, channels]", "[24, 54]"],
    ),
    "channels first": (
        {"x_train": np.zeros((24, 3, 6, 9), np.uint8)},
        ["1, 3 or 4 channels", "the channels come last"],
    ),
    "no images": ({"x_test": np.zeros((0, *SHAPE), np.uint8), "y_test": np.zeros(0, int)}, ["[0,"]),
    "images of two shapes": ({"x_test": arrays()["x_test"][:, :5]}, ["6x9x4", "5x9x4"]),
    "too few labels": (
        {"y_train": np.zeros(23, int)},
        ["24 images", "digits.npz's y_train", "[23]"],
    ),
    "one-hot labels": ({"y_train": np.zeros((24, 3), int)}, ["one label for each", "[24, 3]"]),
    "labels that are fractions": ({"y_train": np.zeros(24)}, ["whole numbers", "float64"]),
    "labels below 0": ({"y_train": np.full(24, -1)}, ["whole numbers from 0", "-1"]),
    "labels from 1": (
        {"y_train": arrays()["y_train"] + 1},
        ["of each of 4 classes", "none of class 0"],
    ),
    "one class": ({"y_train": np.zeros(24, int)}, ["2 to 1000 classes, got 1"]),
    "too many classes": ({"y_train": np.arange(24) * 50}, ["below 1000", "1150"]),
    "a class for tests alone": (
        {"y_test": np.full(9, 3)},
        ["3 classes that have training", "got 3"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_are_refused_with_the_reason(name, tmp_path):
    changes, words = REFUSED[name]
    with pytest.raises(DataUnavailable) as refusal:
        from_npz(tmp_path, **changes)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("classes", [2, 1000])
def test_two_and_a_thousand_classes_are_fine(classes, tmp_path):
    given = arrays(classes=classes, train=classes + 9, test=classes, shape=(3, 2, 1))
    raw = from_npz(tmp_path, **given)
    assert len(set(raw.train_labels.tolist())) == classes


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_a_file_that_is_no_npz_is_named(content, tmp_path):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataUnavailable, match=r"bad\.npz"):
        read(reader("npz", path=str(path)), tmp_path)


def test_pickled_objects_are_not_loaded(tmp_path):
    with pytest.raises(DataUnavailable, match=r"can't be read as \.npz"):
        from_npz(tmp_path, x_train=np.array([object()] * 24))


def test_the_fingerprint_is_of_pixels_labels_and_order():
    def print_of(**changes) -> str:
        given = dict(zip(("train_images", "train_labels", "test_images", "test_labels"),
                         arrays().values(), strict=True))  # fmt: skip
        return RawDataset(**(given | changes)).fingerprint()

    x, y = arrays()["x_train"], arrays()["y_train"]
    other = x.copy()
    other[3, 2, 1, 0] ^= 1
    prints = [
        print_of(),
        print_of(train_images=other),
        print_of(train_labels=y[::-1]),
        print_of(train_images=x[::-1], train_labels=y[::-1]),
        print_of(train_images=x.reshape(24, 9, 6, 4)),
    ]
    assert len(set(prints)) == len(prints)
    assert print_of(train_labels=y.astype(np.int64)) == prints[0]


def test_a_part_of_each_class_is_split_off():
    x = np.arange(103)
    y = np.array([0] * 80 + [1] * 21 + [2] * 2)
    train, _, test, test_y = split_off_test(x, y, 0.2, seed=1)
    assert sorted([*train, *test]) == x.tolist()
    assert np.bincount(test_y).tolist() == [16, 4, 1]
    np.testing.assert_array_equal(y[test], test_y)
    np.testing.assert_array_equal(train, split_off_test(x, y, 0.2, seed=1)[0])
    assert (test != split_off_test(x, y, 0.2, seed=2)[2]).any()
    with pytest.raises(DataUnavailable, match="two images or more of each class"):
        split_off_test(x[:102], y[:102], 0.2, seed=1)


# --------------------------------------------------------------------------- folders


def draw(folder: Path, name: str, *, mode: str = "RGB", size: tuple[int, int] = (5, 7)) -> None:
    """`size`: height and width. A file that is there is not drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, len(mode))
    seed = sum(map(ord, str(folder) + name))
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels, mode).save(folder / name)


def read_folder(folder: Path, **options) -> RawDataset:
    return read(reader("images", path=str(folder), **options), folder)


def test_a_folder_with_train_and_test(tmp_path):
    for part, count in (("train", 6), ("test", 3)):
        for name in ("wasp", "ant", "bee"):
            for number in range(count + (name == "ant")):
                draw(tmp_path / part / name, f"{number}.png")
    (tmp_path / "train/.hidden").mkdir()
    (tmp_path / "train/ant/notes.txt").write_text("no image")
    raw = read_folder(tmp_path)
    assert raw.class_names == ("ant", "bee", "wasp")
    assert raw.train_images.shape == (19, 5, 7, 3)
    assert np.bincount(raw.test_labels).tolist() == [4, 3, 3]
    with Image.open(tmp_path / "train/bee/4.png") as image:
        pixels = np.asarray(image)
    at = [i for i, x in enumerate(raw.train_images) if (x == pixels).all()]
    assert raw.train_labels[at].tolist() == [1]


def test_a_folder_without_a_split_is_split(tmp_path):
    for name in ("ant", "bee"):
        for number in range(10):
            draw(tmp_path / name, f"{number}.png", mode="L")
    raw = read_folder(tmp_path, test_frac=0.3, split_seed=4)
    assert raw.train_images.shape == (14, 5, 7, 1)
    assert np.bincount(raw.test_labels).tolist() == [3, 3]
    other = read_folder(tmp_path, test_frac=0.3, split_seed=5)
    assert raw.fingerprint() != other.fingerprint()


def test_images_with_alpha_alone_have_four_channels(tmp_path):
    for name in ("ant", "bee"):
        for number in range(3):
            draw(tmp_path / name, f"{number}.png", mode="RGBA")
    assert read_folder(tmp_path).train_images.shape[3] == 4
    draw(tmp_path / "ant", "grey.png", mode="L")
    assert read_folder(tmp_path).train_images.shape[3] == 3


def test_images_of_several_sizes_need_one_to_be_resized_to(tmp_path):
    for name, size in (("ant", (5, 7)), ("bee", (8, 4))):
        for number in range(3):
            draw(tmp_path / name, f"{number}.png", size=size)
    with pytest.raises(DataUnavailable, match=r"5x7 \(0.png\) and 8x4 \(0.png\); 'size: \[height"):
        read_folder(tmp_path)
    raw = read_folder(tmp_path, height=5, width=7)
    assert raw.train_images.shape[1:] == (5, 7, 3)
    with Image.open(tmp_path / "ant/0.png") as image:
        pixels = np.asarray(image)
    both = [*raw.train_images, *raw.test_images]
    assert any((x == pixels).all() for x in both), "an image of that size is left alone"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: None, ["a folder for each class"]),
        (lambda f: (f / "ant").mkdir(), ["expected images (", "/ant, got none"]),
        (lambda f: draw(f / "train/ant", "0.png"), ["test, validation, valid or val beside train"]),
        (
            lambda f: (draw(f / "train/ant", "0.png"), draw(f / "test/bee", "0.png")),
            ["the classes of", "got bee too"],
        ),
        (lambda f: ((f / "a").mkdir(), (f / "a/x.png").write_text("t")), ["a/x.png"]),
    ],
)
def test_a_folder_is_refused_with_the_reason(make, words, tmp_path):
    make(tmp_path)
    with pytest.raises(DataUnavailable) as refusal:
        read_folder(tmp_path)
    for word in words:
        assert word in str(refusal.value)


# --------------------------------------------------------------------------- functions, the hub


@pytest.fixture
def module(monkeypatch):
    made = types.ModuleType("their_data")
    monkeypatch.setitem(sys.modules, "their_data", made)
    return made


def test_a_functions_arrays_in_every_form(module, tmp_path):
    x, y, a, b = arrays().values()
    forms = [arrays(), (x, y, a, b), [x, y, a, b], ((x, y), (a, b))]
    prints = set()
    for form in forms:
        module.load = lambda form=form: form
        prints.add(read(UserCode(target="their_data:load"), tmp_path).fingerprint())
    assert len(prints) == 1


def test_a_functions_options_and_folder(module, tmp_path):
    def load(folder, *, count):
        assert folder == tmp_path
        x, y, a, b = arrays().values()
        return x[-count:], y[-count:], a, b

    module.load = load
    code = UserCode(target="their_data:load", options=(("count", 23),))
    assert len(read(code, tmp_path).train_labels) == 23


@pytest.mark.parametrize("answer", [None, 5, (1, 2, 3), {"x_train": arrays()["x_train"]}])
def test_a_function_that_returns_something_else(answer, module, tmp_path):
    module.load = lambda: answer
    with pytest.raises(DataUnavailable, match="their_data:load, as a mapping or in this order"):
        read(UserCode(target="their_data:load"), tmp_path)


def test_a_function_that_fails_is_named_with_its_place(module, tmp_path):
    module.load = lambda: {}["x"]
    with pytest.raises(DataUnavailable, match="their_data:load: KeyError: "):
        read(UserCode(target="their_data:load"), tmp_path)


def test_a_set_of_the_hugging_face_hub(monkeypatch, tmp_path):
    """Of the library's interface: `load_dataset`, features by class name, rows, columns."""

    class Rows:
        features: dict

        def __init__(self, images, labels):
            self._rows = [{"img": Image.fromarray(x[..., :3]), "label": int(y)}
                          for x, y in zip(images, labels, strict=True)]  # fmt: skip
            self.features = {"img": type("Image", (), {})(), "label": type("ClassLabel", (), {})()}
            self.features["label"].names = ["ant", "bee", "wasp"]

        def __len__(self):
            return len(self._rows)

        def __getitem__(self, key):
            return [r[key] for r in self._rows] if isinstance(key, str) else self._rows[key]

    x, y, a, b = arrays().values()
    asked = []
    made = types.ModuleType("datasets")

    def load_dataset(name, cache_dir):
        asked.append((name, cache_dir))
        return {"train": Rows(x, y), "validation": Rows(a, b)}

    made.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", made)
    raw = read(reader("huggingface", name="their/insects"), tmp_path)
    assert asked == [("their/insects", str(tmp_path / "huggingface"))]
    np.testing.assert_array_equal(raw.train_images, x[..., :3])
    np.testing.assert_array_equal(raw.test_labels, b)
    assert raw.class_names == ("ant", "bee", "wasp")


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataUnavailable, match=r"pip install 'prunegrid\[huggingface\]'"):
        read(reader("huggingface", name="their/insects"), tmp_path)

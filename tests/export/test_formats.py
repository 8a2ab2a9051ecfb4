"""What a reader finds in the files: the recorded counts, exact zeros, the same logits."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from tests.export.networks import images, logits, pruned
from tests.science import context, data, prune_task, train_task, training

pytestmark = pytest.mark.tf

METHODS = ("magnitude-global-unstructured", "random-local-kernel", "magnitude-local-filter")
TRAINING = training(max_epochs=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory, data_dir, tensorflow):
    """(files, task key by method): a dense model and one pruning of it by each method."""
    from prunegrid.workers.stages import prune, train

    where = context(tmp_path_factory.mktemp("store"), data_dir)
    dense = train_task(training=TRAINING, data=data())
    train(dense, where)
    keys = {"dense": dense.key}
    for method in METHODS:
        task = prune_task(dense, method=method, rate=2 if "filter" in method else 8)
        prune(task, where)
        keys[method] = task.key
    return where.files, keys


def counted(path) -> tuple[int, int]:
    """(kernel weights, those that are not 0), by a reader who has Keras alone."""
    import keras

    kernels = [
        np.asarray(layer.kernel)
        for layer in keras.models.load_model(path).layers
        if hasattr(layer, "kernel")
    ]
    return sum(k.size for k in kernels), sum(int(np.count_nonzero(k)) for k in kernels)


@pytest.mark.parametrize("method", ["dense", *METHODS])
def test_a_reader_counts_the_recorded_compression(method, store, tmp_path):
    from prunegrid.workers.artifacts import load_record
    from prunegrid.workers.export.formats import export_stored

    files, keys = store
    result = load_record(files, keys[method]).result
    exported = export_stored(files, keys[method], tmp_path / "model.keras", "keras")
    total, left = counted(exported.path)
    assert (total, left) == (result.params_total, result.params_left)
    assert (exported.prunable, exported.prunable_nonzero) == (total, left)
    assert total / left == result.effective_rate
    assert exported.size_bytes == exported.path.stat().st_size


@pytest.mark.parametrize("method", METHODS)
def test_pruned_weights_are_0_in_the_file_and_logits_the_same(method, store, tmp_path):
    import keras

    from prunegrid.workers.export.formats import export_stored, load_model

    files, keys = store
    stored, masks = load_model(files, keys[method])
    path = export_stored(files, keys[method], tmp_path / "model.keras", "keras").path
    found = keras.models.load_model(path)
    for name, mask in masks.items():
        assert not np.asarray(found.get_layer(name).kernel)[~mask].any()
    batch = images((28, 28, 1))
    assert (logits(found, batch) == logits(stored, batch)).all()


def test_the_file_names_no_class_but_keras_own(tmp_path):
    from prunegrid.workers.export.formats import export_model

    model, masks = pruned("resnet8", "magnitude-global-kernel", 4)
    path = export_model(model, masks, tmp_path / "model.keras", "keras").path
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    layers = config["config"]["layers"]
    assert len(layers) == len(model.layers)
    assert all(layer["module"] == "keras.layers" for layer in layers)
    assert all(layer["registered_name"] is None for layer in layers)


def served(path, batch) -> np.ndarray:
    """A SavedModel's answer, by TensorFlow alone."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    return serve(image=tf.constant(batch))["logits"].numpy()


def test_a_savedmodel_serves_the_same_logits_and_weights(tmp_path, capfd):
    import tensorflow as tf

    from prunegrid.workers.export.formats import export_model

    model, masks = pruned("cnn5", "magnitude-global-unstructured", 8)
    exported = export_model(model, masks, tmp_path / "served", "savedmodel")
    assert "artifact" not in capfd.readouterr().out, "Keras' own words; ours come at the end"
    batch = images((28, 28, 1), 3)
    np.testing.assert_allclose(served(exported.path, batch), logits(model, batch), rtol=1e-5)
    found = tf.saved_model.load(str(exported.path)).weights
    for name, mask in masks.items():
        assert (found[f"{name}/kernel"].numpy()[~mask] == 0).all()
    # And in the file itself, however one gets at it: each kernel once.
    file = tf.train.load_checkpoint(str(exported.path / "variables/variables"))
    shapes = file.get_variable_to_shape_map()
    left = [np.count_nonzero(file.get_tensor(n)) for n, shape in shapes.items() if len(shape) > 1]
    assert sum(left) == sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("name", ["small.keras", "small"])
def test_a_shrunk_file_is_smaller_with_the_same_logits(name, tmp_path):
    import keras

    from prunegrid.workers.export.formats import export_model

    model, masks = pruned("resnet8", "random-local-filter", 4)
    whole = export_model(model, masks, tmp_path / "whole.keras", "keras")
    small = export_model(model, masks, tmp_path / name, "shrunk")
    batch = images((32, 32, 3), 4)
    if name.endswith(".keras"):
        found = logits(keras.models.load_model(small.path), batch)
    else:
        found = served(small.path, batch)
    expected = logits(model, batch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert small.size_bytes < whole.size_bytes / 2
    assert small.parameters < whole.parameters / 2


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("m.keras", "onnx", "expected one of keras, savedmodel, shrunk, got 'onnx'"),
        ("m.h5", "keras", r"ends in \.keras, got .*m\.h5"),
        ("m.keras", "savedmodel", "expected a folder"),
    ],
)
def test_bad_forms_and_paths_are_refused(name, form, message, tmp_path):
    from prunegrid.workers.export.formats import export_model

    model, masks = pruned("cnn5", "random-local-filter", 2)
    with pytest.raises(ValueError, match=message):
        export_model(model, masks, tmp_path / name, form)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path):
    from prunegrid.workers.export.formats import export_model

    model, masks = pruned("cnn5", "random-local-filter", 2)
    (tmp_path / "m.keras").write_text("mine")
    with pytest.raises(FileExistsError, match=r"m\.keras exists already"):
        export_model(model, masks, tmp_path / "m.keras", "keras")
    assert (tmp_path / "m.keras").read_text() == "mine"


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    from prunegrid.workers.export import formats

    model, masks = pruned("cnn5", "random-local-filter", 2)

    def full(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(formats.os, "replace", full)
    for name, form in (("m.keras", "keras"), ("m", "savedmodel")):
        with pytest.raises(OSError, match="no space"):
            formats.export_model(model, masks, tmp_path / name, form)
        assert not list(tmp_path.iterdir())


def test_a_pruned_weight_that_is_not_0_is_refused(tmp_path):
    from prunegrid.workers.export.formats import export_model

    model, masks = pruned("cnn5", "magnitude-local-unstructured", 4)
    index = tuple(np.argwhere(~masks["dense2"])[0])
    kernel = model.get_layer("dense2").kernel.numpy()
    kernel[index] = 1e-30
    model.get_layer("dense2").kernel.assign(kernel)
    with pytest.raises(ValueError, match="dense2: expected every pruned weight to be 0, got 1"):
        export_model(model, masks, tmp_path / "m.keras", "keras")


def test_masks_of_another_network_are_refused(tmp_path):
    from prunegrid.workers.export.formats import export_model

    model, masks = pruned("cnn5", "random-local-filter", 2)
    fewer = {name: mask for name, mask in masks.items() if name != "conv1"}
    with pytest.raises(ValueError, match=r"expected those of \['conv1'.*got \['conv2'"):
        export_model(model, fewer, tmp_path / "m.keras", "keras")
    turned = {**masks, "dense2": masks["dense2"].T}
    with pytest.raises(ValueError, match=r"dense2: expected shape \(120, 84\), got \(84, 120\)"):
        export_model(model, turned, tmp_path / "m.keras", "keras")


def test_a_key_that_is_not_in_the_store_is_told(store, tmp_path):
    from prunegrid.workers.export.formats import export_stored

    with pytest.raises(FileNotFoundError):
        export_stored(store[0], "prune-" + "0" * 20, tmp_path / "m.keras", "keras")

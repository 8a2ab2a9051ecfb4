"""Networks that users bring: trained, pruned by every method, attacked, exported, and counted."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from prunegrid.workers import layout
from prunegrid.workers.catalog import METHODS
from prunegrid.workers.contract import OWN, AttackTask, OwnNetwork, PruneTask, TrainTask
from prunegrid.workers.network_facts import NetworkRequest
from prunegrid.workers.user_code import UserCode
from tests.science import Patience, context, data, prune_task, train_task, training
from tests.workers.test_stages_architectures import PGD

pytestmark = pytest.mark.tf

MODULE = "tests.models.own_nets"
KEPT = {"vit": ("positions",)}
#: Where the smaller network is not defined, what is said.
NOT_SHRUNK = {
    "vit": r"reshape: expected Reshape of the images alone .* what patches returns",
    "nested": r"body: .* got a model within it",
    "grouped": r"groups: expected a convolution of one group",
}
NAMES = ("lenet", "mobile", "vit", "nested", "grouped")
ONE_EPOCH = training(max_epochs=1, batch_size=16)


def own(name: str, **changes: Any) -> OwnNetwork:
    return OwnNetwork(label=name, code=UserCode(target=f"{MODULE}:{name}", **changes))


def task_of(name: str, network: OwnNetwork | None = None, **changes: Any) -> TrainTask:
    task = train_task(
        architecture=OWN,
        data=data("synthetic16", 40),
        training=ONE_EPOCH,
        configuration=name,
        prune_except=KEPT.get(name, ()),
        network=network or own(name),
    )
    return dataclasses.replace(task, **changes)


def pruned_from(task: TrainTask, **changes: Any) -> PruneTask:
    kept = {"prune_except": task.prune_except, "network": task.network}
    return prune_task(task, **(kept | changes))


@pytest.fixture(scope="module", params=NAMES)
def dense(request, tmp_path_factory, data_dir, tensorflow):
    """(name, surroundings, dense task), trained."""
    from prunegrid.workers.stages import train

    where = context(tmp_path_factory.mktemp(request.param), data_dir)
    task = task_of(request.param)
    train(task, where)
    return request.param, where, task


def test_it_is_pruned_by_every_method(dense, data_dir):
    from prunegrid.workers import model_cache
    from prunegrid.workers.artifacts import load_weights
    from prunegrid.workers.data.base import load
    from prunegrid.workers.models.base import set_weights
    from prunegrid.workers.models.kernels import prunable
    from prunegrid.workers.pruning.step import prune_step, survivors
    from prunegrid.workers.pruning.trained_network import TrainedNetwork

    name, where, task = dense
    stored = load_weights(where.files, task.key)
    model = model_cache.network(task, where)
    set_weights(model, stored.weights)
    layers = prunable(model, task.prune_except)
    assert {layer.name for layer in layers} == set(stored.masks)
    paths = {layer.name: layer.path for layer in layers}
    images = load(task.data, str(data_dir)).train
    for method in METHODS.values():
        rate = method.rate or 4.0
        masks = prune_step(
            {layer: stored.weights[path] for layer, path in paths.items()},
            stored.masks,
            {layer.name: layer.kind for layer in layers},
            method=method,
            rate=rate,
            parent_rate=1.0,
            seed=0,
            network=TrainedNetwork(model, paths, images, 0),
        )
        total = sum(mask.size for mask in masks.values())
        left = sum(int(mask.sum()) for mask in masks.values())
        if method.structure == "unstructured" and method.scope != "local":
            assert left == survivors(total, rate), method.name
        elif method.structure == "none" or (name == "lenet" and method.structure == "filter"):
            assert left == total, method.name
        elif method.structure == "unstructured" or name == "mobile":
            assert left < total, method.name


def test_it_is_fine_tuned_attacked_exported_and_shrunk(dense, tmp_path):
    import keras

    from prunegrid.workers.artifacts import load_record, load_weights
    from prunegrid.workers.export.formats import export_stored, load_model
    from prunegrid.workers.image_rows import read_images
    from prunegrid.workers.models.kernels import kernels
    from prunegrid.workers.stages import attack, prune

    name, where, task = dense
    child = pruned_from(task, method="magnitude-local-filter", rate=2.0)
    prune(child, where)
    record, stored = load_record(where.files, child.key), load_weights(where.files, child.key)
    model, _ = load_model(where.files, child.key)
    paths = {layer.name: layer.path for layer in kernels(model, task.prune_except)}
    for layer, mask in stored.masks.items():
        assert not np.any(stored.weights[paths[layer]][~mask]), layer
    assert record.result.params_left == sum(int(mask.sum()) for mask in stored.masks.values())
    assert record.result.speedup > 1 or name == "lenet"

    shot = AttackTask(
        architecture=OWN,
        data=task.data,
        attack=PGD,
        split="test",
        start=0,
        stop=8,
        seed=0,
        parent_key=child.key,
        network=task.network,
    )
    attack(shot, where)
    rows = read_images(where.files.read(layout.image_rows(shot.key))).table.to_pydict()
    assert rows["image"] == list(range(8))

    images = np.random.default_rng(0).random((4, 16, 16, 3), dtype=np.float32)
    logits = np.asarray(model(images, training=False))
    exported = export_stored(where.files, child.key, tmp_path / "m.keras", "keras")
    assert exported.prunable_nonzero <= record.result.params_left
    if name != "vit":  # its layers are no registered ones
        found = keras.models.load_model(exported.path)(images, training=False)
        np.testing.assert_array_equal(np.asarray(found), logits)
    if name in NOT_SHRUNK:
        with pytest.raises(ValueError, match=NOT_SHRUNK[name]):
            export_stored(where.files, child.key, tmp_path / "s.keras", "shrunk")
    else:
        small = export_stored(where.files, child.key, tmp_path / "s.keras", "shrunk")
        assert small.prunable < exported.prunable or name == "lenet"


def test_a_file_with_layers_of_ones_own_is_refused_in_one_sentence(tmp_path):
    import keras

    Scale = type("OwnScale", (keras.layers.Layer,), {})  # noqa: N806
    for layer, words in (
        (Scale(), "it has a layer of one's own, OwnScale: .* name a function that builds"),
        (keras.layers.Lambda(lambda x: 2 * x), "it has a Lambda layer's code: expected"),
    ):
        path = tmp_path / f"{layer.name}.keras"
        keras.Sequential([keras.Input((16, 16, 3)), layer]).save(path)
        with pytest.raises(ValueError, match=words):
            facts("", code=None, file_path=str(path), trained=True)


@pytest.mark.parametrize(
    ("name", "shape", "note"),
    [
        (
            "of_rows",
            (16, 12, 1),
            "its input is 16x12: a layer before it brings images",
        ),
        (
            "of_vectors",
            (8, 6, 3),
            "its input is 144: a layer before it brings images",
        ),
    ],
)
def test_images_are_brought_into_the_form_that_a_network_takes(name, shape, note, tmp_path):
    """The same logits as the network itself, from a function and from a trained file; it can be
    shrunk."""
    import keras

    from prunegrid.workers.export.shrink import shrink
    from prunegrid.workers.models.own_networks import built_by, read_from
    from tests.models import own_nets

    theirs = getattr(own_nets, name)(shape, 5)
    theirs.save(tmp_path / "net.keras")
    images = np.random.default_rng(0).random((4, *shape), dtype=np.float32)
    expected = np.asarray(theirs(images.reshape(4, *theirs.input_shape[1:])))
    ours = read_from(tmp_path / "net.keras", shape, 5, name="net.keras", seed=None)
    got = np.asarray(ours(images))
    found = np.asarray(keras.ops.softmax(got)) if name == "of_rows" else got
    np.testing.assert_allclose(found, expected, atol=1e-6)
    built = built_by(UserCode(target=f"{MODULE}:{name}"), shape, 5, seed=0)
    assert built.output_shape == (None, 5)
    said = facts(name, input_shape=shape, classes=5).notes
    assert said[0] == f"{note} of {'x'.join(map(str, shape))} into it"

    weights = ours.get_layer("conv" if name == "of_rows" else ours.layers[-2].name)
    kernel, bias = weights.get_weights()
    kernel[..., 0] = 0
    weights.set_weights([kernel, bias])
    assert shrink(ours).count_params() < ours.count_params()


def test_dimensions_that_only_resemble_the_images_are_refused():
    for shape in ((16, 12, 3), (12, 16, 1)):  # colours can't be left out; rows are not columns
        with pytest.raises(ValueError, match=r"expected images of"):
            facts("", code=UserCode(target=f"{MODULE}:sixteen_by_twelve"), input_shape=shape)


def test_dropout_draws_the_same_wherever_training_resumes(tmp_path, data_dir):
    """Bit for bit: interrupted after its first steps, or not."""
    from prunegrid.workers.artifacts import load_weights
    from prunegrid.workers.context import Interrupted
    from prunegrid.workers.stages import train

    task = task_of("vit", training=training(max_epochs=2, batch_size=4))
    whole, parts = context(tmp_path / "whole", data_dir), context(tmp_path / "parts", data_dir)
    train(task, whole)
    with pytest.raises(Interrupted):
        train(task, dataclasses.replace(parts, stop_requested=Patience(0)))
    train(task, parts)
    one, other = (load_weights(each.files, task.key).weights for each in (whole, parts))
    assert all(np.array_equal(one[name], other[name]) for name in one)


# --------------------------------------------------------------------------- what it is


def facts(name: str, **changes: Any):
    from prunegrid.workers.models.describe import facts_of

    code = UserCode(target=f"{MODULE}:{name}", options=changes.pop("options", ()))
    values: dict[str, Any] = {"code": code, "input_shape": (16, 16, 3), "classes": 10}
    return facts_of(NetworkRequest(**(values | changes)))


def test_every_kind_of_kernel_is_found_and_counted():
    """By hand. Multiply-adds: of each weight, how often an image meets it."""
    from prunegrid.workers.models.kernels import kernels
    from prunegrid.workers.models.own_networks import built_by

    code = UserCode(target=f"{MODULE}:every_kernel")
    found = {k.name: k for k in kernels(built_by(code, (16, 16, 3), 10, seed=0))}
    # 16x16 -> separable 14x14 -> transposed 29x29 -> grouped 27x27 -> depthwise 25x25 = 625 rows
    # -> conv1d of stride 2: 312 rows
    assert {name: (k.kind, k.shape, k.positions) for name, k in found.items()} == {
        "separable/depthwise_kernel": ("depthwise", (3, 3, 3, 2), 14 * 14),
        "separable/pointwise_kernel": ("conv", (1, 1, 6, 4), 14 * 14),
        "transposed": ("transposed", (3, 3, 6, 4), 14 * 14),
        "grouped": ("conv", (3, 3, 2, 6), 27 * 27),
        "depthwise": ("depthwise", (3, 3, 6, 1), 25 * 25),
        "conv1d": ("conv", (3, 6, 4), 312),
        "shared": ("dense", (4, 4), 2 * 312),
        "einsum": ("dense", (4, 2, 3), 312),
        "dots": ("dense", (3, 5), 312 * 2),
        "head": ("dense", (312 * 2 * 5, 10), 1),
    }


def test_nested_layers_are_named_by_their_way():
    from prunegrid.workers.models.kernels import kernels
    from prunegrid.workers.models.own_networks import built_by

    made = {n: built_by(UserCode(target=f"{MODULE}:{n}"), (16, 16, 3), 10, seed=0) for n in NAMES}
    names = {k.name: k.shape for k in kernels(made["vit"], ("positions",))}
    assert names == {
        "patches": (4, 4, 3, 8),
        "block/attend/query": (8, 2, 4),
        "block/attend/key": (8, 2, 4),
        "block/attend/value": (8, 2, 4),
        "block/attend/attention_output": (2, 4, 8),
        "block/wide": (8, 16),
        "block/narrow": (16, 8),
        "head": (8, 10),
    }
    assert [k.name for k in kernels(made["nested"])] == ["body/inner/conv", "head"]
    spared = {k.name: k.prunable for k in kernels(made["nested"], ("inner",))}
    assert spared == {"body/inner/conv": False, "head": True}
    with pytest.raises(ValueError, match=r"prune_except: expected layers of .*, head; got heads"):
        kernels(made["nested"], ("heads",))


def test_weights_depend_on_the_seed_alone_and_names_on_nothing_else():
    import keras

    from prunegrid.workers.models.base import get_weights
    from prunegrid.workers.models.own_networks import built_by

    code = UserCode(target=f"{MODULE}:mobile")
    one = get_weights(built_by(code, (16, 16, 3), 10, seed=1))
    keras.layers.Dense(3)  # counts Keras' names up
    two = get_weights(built_by(code, (16, 16, 3), 10, seed=1))
    other = get_weights(built_by(code, (16, 16, 3), 10, seed=2))
    assert one.keys() == two.keys() == other.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["conv2d/kernel"], other["conv2d/kernel"])


def test_an_identity_is_what_is_built_with_its_options_and_version():
    base = facts("lenet")
    assert facts("lenet").configuration == base.configuration
    wide = facts("lenet", options=(("width", 2),))
    assert wide.configuration != base.configuration
    newer = UserCode(target=f"{MODULE}:lenet", version=2)
    assert facts("lenet", code=newer).configuration != base.configuration
    assert base.prunable_weights == 768 * 30 + 30 * 10 + 10 * 10 == base.forward_flops
    assert (base.structured_weights, facts("mobile").structured_weights > 0) == (0, True)
    assert base.notes == (
        "it ends in a softmax, which is cut off: attacks and training see logits",
    )
    assert facts("seeded").notes == (
        "every seed has the same initial weights: its initialisers have seeds",
    )
    kept = facts("nested", prune_except=("head",))
    assert kept.forward_flops == facts("nested").forward_flops
    assert kept.prunable_weights == 3 * 3 * 3 * 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two_outputs", "expected one input and one output, got 1 and 2"),
        ("wrong_classes", "expected logits of 10 classes, got 7"),
        ("hidden_softmax", "its outputs are probabilities: expected logits"),
        ("recurrent", r"layer 'memory/lstm_cell' \(LSTMCell\) can't be pruned and counted: .*"
                      r"`prune_except: \[memory/lstm_cell\]` leaves them"),
        ("vit", r"layer 'positions' \(Positions\) can't be pruned and counted: its weights table"),
        ("fails", r"own_nets:fails: RuntimeError: no luck \(own_nets.py:\d+\)"),
        ("nothing", "expected a function of tests.models.own_nets, got 'nothing'"),
    ],
)  # fmt: skip
def test_what_is_no_such_network_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        facts(name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((("widht", 2),), "expected options of width, got widht"),
        ((("width", "two"),), "TypeError|ValueError"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        facts("lenet", options=options)


# --------------------------------------------------------------------------- a .keras file


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory, tensorflow):
    """LeNet's file, with its softmax and weights of its own."""
    from tests.models.own_nets import lenet

    path = tmp_path_factory.mktemp("file") / "lenet.keras"
    lenet((16, 16, 3), 10).save(path)
    return path


def test_a_trained_file_is_used_as_it_is(keras_file, tmp_path, data_dir):
    """Its evaluation is the dense model; a fresh one is initialised by the seed."""
    import keras

    from prunegrid.orchestrator.grid.file import _AS_TRAINED
    from prunegrid.workers.artifacts import load_record, load_weights
    from prunegrid.workers.network_facts import file_sha256
    from prunegrid.workers.stages import prune, train

    where = context(tmp_path, data_dir)
    sha256 = file_sha256(str(keras_file))
    where.files.write(layout.network_file(sha256), keras_file.read_bytes())
    network = OwnNetwork(label="mine", file_sha256=sha256, trained=True)
    task = task_of("lenet", network, training=_AS_TRAINED)
    train(task, where)
    kept = load_weights(where.files, task.key)
    assert load_record(where.files, task.key).result.epochs == 0
    file = {w.path: np.asarray(w) for w in keras.models.load_model(keras_file).weights}
    assert {name.replace("sequential/", ""): a.sum() for name, a in file.items()} == {
        name: array.sum() for name, array in kept.weights.items()
    }
    child = pruned_from(task, training=ONE_EPOCH)
    prune(child, where)
    assert load_record(where.files, child.key).result.epochs == 1
    fresh = dataclasses.replace(network, trained=False)
    new = task_of("lenet", fresh, configuration="fresh")
    train(new, where)
    other = load_weights(where.files, new.key).weights
    first = next(iter(other))
    assert not math.isclose(other[first].sum(), kept.weights[first].sum())


def test_a_file_of_other_images_or_none_is_refused(keras_file, tmp_path):
    path = {"code": None, "file_path": str(keras_file), "trained": True}
    with pytest.raises(ValueError, match=r"lenet.keras: expected images of 8x8x3, got 16x16x3"):
        facts("", input_shape=(8, 8, 3), **path)
    torn = tmp_path / "torn.keras"
    torn.write_bytes(keras_file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"torn.keras: can't be read as a Keras model"):
        facts("", **(path | {"file_path": str(torn)}))
    as_it_is, fresh = facts("", **path), facts("", **(path | {"trained": False}))
    assert as_it_is.configuration != fresh.configuration
    assert as_it_is.file_sha256 == fresh.file_sha256

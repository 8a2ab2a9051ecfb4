"""Training: it learns, keeps pruned weights at 0, and resumes to the same bits."""

from __future__ import annotations

import dataclasses
import gc
import math
import weakref
from functools import cache
from typing import Any

import numpy as np
import pytest

from prunegrid.workers.checkpoints import Saved
from prunegrid.workers.context import Interrupted
from prunegrid.workers.contract import AdversarialTraining
from prunegrid.workers.data.base import Dataset, ImageSplit
from prunegrid.workers.data.synthetic import read_28, read_32
from tests.science import Patience, training

pytestmark = pytest.mark.tf

FULL = training(  # everything that has state, at once
    max_epochs=4,
    augmentation="flip_crop_6",
    early_stopping_patience=3,
    lr_factor=0.5,
    lr_patience=1,
    lr_min=1e-5,
    restore_best=True,
)
ADVERSARIAL = AdversarialTraining(mix=0.5, eps=0.05, steps=2, rel_stepsize=0.5)


class Memory:
    """A checkpoint in memory; copies, as a file would."""

    def __init__(self) -> None:
        self.saved: Saved | None = None
        self.saves = 0

    def save(self, arrays: Any, state: Any) -> None:
        self.saves += 1
        copied = {name: np.array(array) for name, array in arrays.items()}
        history = [dict(row) for row in state["history"]]
        self.saved = Saved(arrays=copied, state={**state, "history": history})

    def load(self) -> Saved | None:
        return self.saved


@cache
def images(channels: int, count: int = 200) -> Dataset:
    raw = (read_28 if channels == 1 else read_32)(None)  # type: ignore[arg-type]
    cut = count - 40

    def part(start: int, stop: int) -> ImageSplit:
        labels = raw.train_labels[start:stop].astype(np.int32)
        return ImageSplit(images=raw.train_images[start:stop], labels=labels)

    test = ImageSplit(images=raw.test_images, labels=raw.test_labels.astype(np.int32))
    return Dataset(
        name="tiny", classes=10, train=part(0, cut), validation=part(cut, count), test=test
    )


@cache
def network() -> Any:
    """A small network with batch norm, on 32x32x3."""
    import keras

    from prunegrid.workers.models.layers import Layers

    layers = Layers(0)
    inputs = keras.Input((32, 32, 3))
    x = layers.conv(inputs, "conv1", 6, 3, stride=2, relu=True)
    x = layers.norm(x, "norm1")
    x = layers.conv(x, "conv2", 8, 3, stride=2, relu=True)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, layers.dense(x, "logits", 10))


@cache
def start() -> dict[str, np.ndarray]:
    from prunegrid.workers.models.base import get_weights

    return get_weights(network())


def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    kernels = ("conv1/kernel", "conv2/kernel")
    return {name: rng.random(start()[name].shape) < 0.4 for name in kernels}


def train(model, settings, *, masks, dataset, seed, name, **more):
    from prunegrid.workers.training.fit import TrainingHooks, TrainingStage, fit

    hooks = {"checkpoint": Memory(), "stop_requested": lambda: False}
    hooks |= {name: more.pop(name) for name in (*hooks, "save_every_s") if name in more}
    return fit(
        model,
        TrainingStage(name=name, masks=masks, dataset=dataset, settings=settings, seed=seed),
        TrainingHooks(beat=lambda fraction, note: None, **hooks),
        **more,
    )


def run(settings, checkpoint=None, *, pruned=True, stop=lambda: False, dataset=None, **more):
    """Train from the same start; returns the result and the final weights."""
    from prunegrid.workers.models.base import get_weights, set_weights

    model, chosen = network(), masks() if pruned else {}
    weights = dict(start())
    for name, mask in chosen.items():
        weights[name] = weights[name] * mask
    set_weights(model, weights)
    result = train(
        model,
        settings,
        masks=chosen,
        dataset=dataset or images(3),
        seed=5,
        name="test",
        checkpoint=checkpoint or Memory(),
        stop_requested=stop,
        **more,
    )
    return result, get_weights(model)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    different = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    assert set(one) == set(other)
    assert not different


@pytest.mark.parametrize("settings", [FULL, training(adversarial=ADVERSARIAL)])
def test_an_interrupted_training_ends_in_the_same_bits(settings, monkeypatch):
    """Stopped and started again after every single step, and once through."""
    from prunegrid.workers.training import fit as module

    monkeypatch.setattr(module, "CHUNK_S", 0.0)  # one step per chunk, never more
    whole, weights = run(settings)
    checkpoint, stops = Memory(), 0
    while True:
        try:
            resumed, again = run(settings, checkpoint, stop=Patience(0))
        except Interrupted:
            stops += 1
            continue
        break
    assert stops >= 3 * len(whole.history) - 1  # 160 images are 3 steps an epoch
    assert_same(weights, again)
    assert resumed == whole


@pytest.mark.parametrize("resident_bytes", [0, 10**9])
def test_a_checkpoint_inside_an_epoch_is_as_good_as_one_at_its_end(resident_bytes, monkeypatch):
    from prunegrid.workers.training import fit as module

    monkeypatch.setattr(module, "CHUNK_S", 0.0)
    whole, weights = run(FULL)
    checkpoint = Memory()
    with pytest.raises(Interrupted):
        run(FULL, checkpoint, stop=Patience(4))
    assert checkpoint.saved is not None
    assert (checkpoint.saved.state["epoch"], checkpoint.saved.state["step"]) == (1, 2)
    result, again = run(FULL, checkpoint, resident_bytes=resident_bytes)
    assert_same(weights, again)
    assert result == whole


def test_saves_within_an_epoch_as_often_as_asked(monkeypatch):
    from prunegrid.workers.training import fit as module

    monkeypatch.setattr(module, "CHUNK_S", 0.0)
    often, seldom = Memory(), Memory()
    run(training(), often, save_every_s=0.0)
    run(training(), seldom, save_every_s=1e9)
    assert (often.saves, seldom.saves) == (5, 1)  # the last epoch's end needs none


@pytest.mark.parametrize("settings", [FULL, training(adversarial=ADVERSARIAL)])
def test_chunks_change_nothing(settings, monkeypatch):
    from prunegrid.workers.training import fit as module

    monkeypatch.setattr(module, "CHUNK_S", 1e9)  # 1, 2, then all steps of an epoch at once
    whole, weights = run(settings)
    monkeypatch.setattr(module, "CHUNK_S", 0.0)
    stepped, again = run(settings)
    assert_same(weights, again)
    assert stepped == whole


def test_streaming_changes_nothing():
    whole, weights = run(FULL)
    streamed, again = run(FULL, resident_bytes=0)
    assert_same(weights, again)
    assert streamed == whole


@pytest.mark.parametrize("resident_bytes", [0, 10**9])
def test_compiles_once_whatever_the_chunks_epochs_and_masks(resident_bytes):
    from prunegrid.workers.training.steps import stepper_for

    for pruned in (False, True):
        run(training(max_epochs=3), pruned=pruned, resident_bytes=resident_bytes)
    compiled = stepper_for(network(), training())._compiled.values()
    assert compiled
    assert all(function.experimental_get_tracing_count() == 1 for function in compiled)


def test_a_finished_training_lets_its_images_go(monkeypatch):
    """Compiled steps outlive it, and on a GPU its data set would stay beside the next one."""
    from prunegrid.workers.training import fit as module

    made, original = [], module.source

    def source(*args, **rest):
        made.append(weakref.ref(found := original(*args, **rest)))
        return found

    monkeypatch.setattr(module, "source", source)
    for _ in range(2):
        run(training(max_epochs=1, batch_size=48))
    gc.collect()
    assert len(made) == 2
    assert not any(kept() for kept in made)


def test_a_used_network_trains_like_a_new_one():
    """Nothing of an earlier stage leaks: optimizer, masks, batch norm."""
    import keras

    from prunegrid.workers.models.base import get_weights, set_weights

    run(training(learning_rate=0.1), pruned=False)
    _, weights = run(FULL)
    fresh = keras.models.clone_model(network())
    set_weights(fresh, {n: a * masks()[n] if n in masks() else a for n, a in start().items()})
    train(fresh, FULL, masks=masks(), dataset=images(3), seed=5, name="test")
    assert_same(weights, get_weights(fresh))


def test_pruned_weights_stay_exactly_zero_and_others_move():
    _, weights = run(training(max_epochs=3))
    for name, mask in masks().items():
        assert not np.any(weights[name][~mask])
        assert np.all(weights[name][mask] != start()[name][mask])


def test_refuses_masks_that_the_weights_do_not_obey():
    from prunegrid.workers.models.base import set_weights
    from prunegrid.workers.training.fit import check_pruned

    set_weights(network(), start())
    wrong = int(np.count_nonzero(~masks()["conv1/kernel"]))
    with pytest.raises(ValueError, match=rf"conv1/kernel.*got {wrong} that are not"):
        check_pruned(network(), masks())


def test_batch_norm_statistics_move_and_are_in_the_checkpoint():
    checkpoint = Memory()
    _, weights = run(training(), checkpoint)
    assert np.any(weights["norm1/moving_mean"] != start()["norm1/moving_mean"])
    assert checkpoint.saved is not None
    assert "model:norm1/moving_mean" in checkpoint.saved.arrays


@pytest.mark.parametrize("pruned", [False, True])
def test_divergence_is_an_outcome(pruned):
    result, weights = run(training(learning_rate=1e30, max_epochs=9), pruned=pruned)
    assert result.diverged
    assert result.epochs < 9
    assert math.isnan(result.train_loss)
    for name, mask in masks().items() if pruned else ():
        assert not np.any(weights[name][~mask])


def test_divergence_ends_in_the_same_bits_however_it_was_chunked(monkeypatch):
    from prunegrid.workers.training import fit as module

    settings = training(learning_rate=1e30, max_epochs=9)
    whole, weights = run(settings)
    monkeypatch.setattr(module, "CHUNK_S", 0.0)
    stepped, again = run(settings)
    assert_same(weights, again)
    assert repr(stepped) == repr(whole)  # NaN is not equal to itself


def test_early_stopping_keeps_the_last_weights_unless_the_best_are_asked_for():
    wild = training(learning_rate=0.3, max_epochs=12, early_stopping_patience=2)
    last, last_weights = run(wild)
    best, best_weights = run(dataclasses.replace(wild, restore_best=True))
    assert last.stopped_early
    assert best.stopped_early
    losses = [row["validation_loss"] for row in last.history]
    assert last.kept_epoch == last.epochs == len(losses)
    assert best.kept_epoch == 1 + int(np.argmin(losses)) == best.epochs - 2
    assert any(last_weights[n].tobytes() != best_weights[n].tobytes() for n in last_weights)


def test_a_checkpoint_of_another_form_is_ignored():
    whole, weights = run(training())
    checkpoint = Memory()
    checkpoint.saved = Saved(arrays={"model:other": np.zeros(3)}, state={"epoch": 1})
    result, again = run(training(), checkpoint)
    assert_same(weights, again)
    assert result == whole


@pytest.mark.parametrize("name", ["train", "validation"])
def test_an_empty_split_is_refused(name):
    whole = images(3)
    empty = ImageSplit(images=whole.train.images[:0], labels=whole.train.labels[:0])
    changed = {"train": whole.train, "validation": whole.validation, name: empty}
    dataset = Dataset(name="tiny", classes=10, test=whole.test, **changed)
    with pytest.raises(ValueError, match=f"the {name} split has no images"):
        run(training(), dataset=dataset)


def test_equals_keras_own_steps():
    """The loop against Keras' train_on_batch, fed the same batches: one epoch, dense."""
    import keras

    from prunegrid.workers.keys import derive_seed
    from prunegrid.workers.models.base import get_weights, set_weights

    _, weights = run(training(max_epochs=1), pruned=False)
    reference = keras.models.clone_model(network())
    set_weights(reference, start())
    reference.compile(
        optimizer=keras.optimizers.Adam(0.003),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    train = images(3).train
    order = np.random.default_rng(derive_seed(5, "test", "order", 0)).permutation(len(train))
    for first in range(0, len(train), 64):
        picked = order[first : first + 64]
        batch = train.images[picked].astype(np.float32) / 255
        reference.train_on_batch(batch, train.labels[picked])
    for name, array in get_weights(reference).items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-3, atol=2e-5, err_msg=name)


def test_the_train_loss_is_the_mean_over_images():
    """Without progress (a rate of almost 0) it is what evaluation finds, last batch included."""
    from prunegrid.workers.models.base import build
    from prunegrid.workers.training.steps import evaluator_for

    model, dataset = build("cnn5", (28, 28, 1), 10, seed=0), images(1, 140)
    assert len(dataset.train) % 64
    settings = training(learning_rate=1e-30, max_epochs=1)
    result = train(model, settings, masks={}, dataset=dataset, seed=0, name="dense")
    assert result.train_loss == pytest.approx(evaluator_for(model)(dataset.train)[0], rel=1e-5)


def test_learns():
    """CNN5 on the synthetic images, to an accuracy that chance does not reach."""
    from prunegrid.workers.models.base import build
    from prunegrid.workers.training.steps import evaluator_for

    model, dataset = build("cnn5", (28, 28, 1), 10, seed=0), images(1, 400)
    train(model, training(max_epochs=8), masks={}, dataset=dataset, seed=0, name="dense")
    assert evaluator_for(model)(dataset.test)[1] > 0.8


def test_adversarial_training_resists_better():
    """At the radius it was trained for, against the same attack, on images it never saw."""
    import tensorflow as tf

    from prunegrid.workers.training.steps import attack_batch

    def robust_accuracy(settings) -> float:
        run(settings, pruned=False, dataset=images(3, 400))
        test = images(3).test
        x, y = tf.constant(test.floats(0, 200)), tf.constant(test.labels)
        how = dataclasses.replace(ADVERSARIAL, steps=5)
        attacked = attack_batch(network(), x, y, tf.constant([1, 2]), how)
        assert float(tf.reduce_max(tf.abs(attacked - x))) <= how.eps + 1e-6
        predicted = np.argmax(network()(attacked, training=False), axis=1)
        return float(np.mean(predicted == test.labels))

    settings = training(max_epochs=25, learning_rate=0.01)
    plain = robust_accuracy(settings)
    hardened = robust_accuracy(
        dataclasses.replace(settings, adversarial=dataclasses.replace(ADVERSARIAL, mix=1.0))
    )
    assert hardened > plain + 0.05

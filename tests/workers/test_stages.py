"""Train, prune and attack, each through the store: what is written, and that it depends on the
task alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from prunegrid.workers import layout
from prunegrid.workers.catalog import METHODS
from prunegrid.workers.context import Interrupted
from prunegrid.workers.contract import (
    AttackSettings,
    AttackTask,
    Attempt,
    PruneTask,
    Success,
    TrainTask,
)
from prunegrid.workers.device import arithmetic
from prunegrid.workers.files import LocalFiles, StorageError
from prunegrid.workers.revision import code_there, git_revision
from tests.science import Patience, context, data, prune_task, train_task, training

pytestmark = pytest.mark.tf

DENSE = train_task(training=training(max_epochs=3))
ONE_EPOCH = training(max_epochs=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory, data_dir, tensorflow):
    """A store with one trained dense model."""
    from prunegrid.workers.stages import train

    folder = tmp_path_factory.mktemp("store")
    train(DENSE, context(folder, data_dir))
    return folder


def forget() -> None:
    """As a new process would be, but for what is compiled."""
    from prunegrid.workers import model_cache

    model_cache._stored.clear()


def attack_task(parent: TrainTask) -> AttackTask:
    return AttackTask(
        architecture="cnn5",
        data=DENSE.data,
        attack=AttackSettings(
            attack="pgd_linf",
            engine="strict",
            outputs="logits",
            options=(
                ("nested", False),
                ("random_start", True),
                ("rel_stepsize", 0.1),
                ("restarts", 1),
                ("steps", 5),
            ),
            eps=(0.02, 0.3),
            batch_size=16,
            skip_at_or_below_accuracy=None,
        ),
        split="test",
        start=10,
        stop=30,
        seed=0,
        parent_key=parent.key,
    )


def test_train_leaves_a_whole_model_and_no_checkpoint(store, data_dir):
    from prunegrid.workers.artifacts import load_record, load_weights, weights_sha256

    files = context(store, data_dir).files
    record, stored = load_record(files, DENSE.key), load_weights(files, DENSE.key)
    assert record.task == DENSE
    assert record.result.weights_sha256 == weights_sha256(stored.weights)
    assert record.result.params_total == record.result.params_left == 61_470
    assert record.result.epochs == 3
    assert record.result.accuracy > 0.5
    history = json.loads(files.read(layout.model_file(DENSE.key, "history.json")))
    assert history[-1]["train_loss"] == record.result.train_loss
    assert history[-1]["validation_loss"] == pytest.approx(record.result.validation_loss)
    assert not list(files.list(layout.CHECKPOINTS))
    known = dict(record.provenance.versions)
    assert known["tensorflow"].startswith("2.")
    assert record.provenance.device
    assert record.provenance.task_key == DENSE.key
    assert record.provenance.git_revision == git_revision()
    assert record.provenance.code_digest == code_there().digest
    assert record.provenance.arithmetic == arithmetic()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_prunes_to_64_and_keeps_its_zeros(method, store, data_dir):
    """A chain of two steps, read back from the store, not from memory."""
    from prunegrid.workers.artifacts import load_weights
    from prunegrid.workers.stages import prune

    parent: TrainTask | PruneTask = DENSE
    where = context(store, data_dir)
    masks: dict[str, np.ndarray] = {}
    for rate in (4.0, 64.0) if METHODS[method].rate is None else (METHODS[method].rate,):
        task = prune_task(parent, method=method, rate=rate, training=ONE_EPOCH)
        record = prune(task, where)
        forget()
        stored = load_weights(where.files, task.key)
        left = 0
        for layer in record.result.layers:
            kernel, mask = stored.weights[f"{layer.name}/kernel"], stored.masks[layer.name]
            assert not np.any(kernel[~mask])
            assert layer.left == np.count_nonzero(mask)
            assert not np.any(mask & ~masks.get(layer.name, mask))
            left += int(np.count_nonzero(kernel))
        assert record.result.params_left == sum(int(m.sum()) for m in stored.masks.values())
        assert record.result.nominal_rate == rate
        # What a reader counts in the weights: trained weights are not 0 by chance.
        assert record.result.effective_rate == pytest.approx(61_470 / left, rel=1e-3)
        masks, parent = stored.masks, task


@pytest.mark.parametrize("weights", ["retain", "rewind", "reinitialize"])
def test_what_fine_tuning_starts_from(weights, store, data_dir, monkeypatch):
    from prunegrid.workers import stages
    from prunegrid.workers.artifacts import load_weights
    from prunegrid.workers.models.base import get_weights

    started = {}

    def look(model, stage, hooks):
        started.update(get_weights(model))
        raise Interrupted("seen enough")

    monkeypatch.setattr(stages, "fit", look)
    with pytest.raises(Interrupted):
        stages.prune(prune_task(DENSE, weights=weights), context(store, data_dir))
    initial = stages.initial_weights(DENSE, context(store, data_dir))
    trained = load_weights(context(store, data_dir).files, DENSE.key).weights
    kernel = started["dense1/kernel"]
    survived = kernel != 0
    same_as = {
        name: np.array_equal(kernel[survived], other["dense1/kernel"][survived])
        for name, other in (("retain", trained), ("rewind", initial))
    }
    assert same_as == {name: name == weights for name in same_as}
    assert survived.mean() < 0.5


def test_an_interrupted_task_resumes_to_the_result_of_an_unbroken_one(
    store, data_dir, tmp_path, monkeypatch
):
    from prunegrid.workers.artifacts import load_record
    from prunegrid.workers.stages import train
    from prunegrid.workers.training import fit

    monkeypatch.setattr(fit, "CHUNK_S", 0.0)
    stopped = context(tmp_path, data_dir, stop_requested=Patience(8))
    with pytest.raises(Interrupted):
        train(DENSE, stopped)
    assert list(stopped.files.list(layout.CHECKPOINTS))
    assert not stopped.files.exists(layout.model_record(DENSE.key))
    record = train(DENSE, context(tmp_path, data_dir))
    assert record.result == load_record(context(store, data_dir).files, DENSE.key).result
    assert not list(stopped.files.list(layout.CHECKPOINTS))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests import science
from tests.workers.test_stages import DENSE
from prunegrid.workers.device import configure
from prunegrid.workers.files import LocalFiles
from prunegrid.workers.training import fit

configure(1, None)
import tensorflow as tf
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
fit.CHUNK_S = 0.0
fit.TrainingHooks.__init__.__kwdefaults__["save_every_s"] = 0.0
write, saves = LocalFiles.write, []
def count_and_die(self, path, content):
    write(self, path, content)
    saves.append(path)
    if len(saves) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
LocalFiles.write = count_and_die
from prunegrid.workers.stages import train
train(DENSE, science.context(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def test_a_killed_process_is_resumed_by_another_to_the_same_bits(store, data_dir, tmp_path):
    """SIGKILL right after the ninth checkpoint, in the second epoch of three."""
    from prunegrid.workers.artifacts import load_record
    from prunegrid.workers.checkpoints import Checkpoint
    from prunegrid.workers.stages import train

    # Ray sets this variable too; the worker's own thread count has to win.
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(data_dir)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    where = context(tmp_path, data_dir)
    saved = Checkpoint(where.files, DENSE.key).load()
    assert saved is not None
    assert (saved.state["epoch"], saved.state["step"]) == (1, 3)
    record = train(DENSE, where)
    assert record.result == load_record(context(store, data_dir).files, DENSE.key).result


ELSEWHERE = """
import sys
from pathlib import Path
from tests import science
from tests.workers.test_stages import DENSE
from prunegrid.workers.contract import Attempt
from prunegrid.workers.entry import run_attempt

settings = science.context(Path(sys.argv[1]), Path(sys.argv[2])).settings
print(run_attempt(Attempt(task=DENSE, number=1), settings, lambda *_: None, lambda: False))
"""


def test_what_a_user_told_keras_changes_no_result(store, data_dir, tmp_path):
    from prunegrid.workers.artifacts import load_record

    told = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1}
    (tmp_path / "keras.json").write_text(json.dumps(told | {"backend": "torch"}))
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "store"), str(data_dir)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("Success"), ended.stdout + ended.stderr[-2000:]
    got = load_record(context(tmp_path / "store", data_dir).files, DENSE.key).result
    assert got == load_record(context(store, data_dir).files, DENSE.key).result


def test_a_torn_checkpoint_means_starting_over(store, data_dir, tmp_path):
    from prunegrid.workers.artifacts import load_record
    from prunegrid.workers.stages import train

    where = context(tmp_path, data_dir)
    where.files.write(layout.checkpoint_file(DENSE.key, "state.npz"), b"PK\x03\x04 torn")
    record = train(DENSE, where)
    assert record.result == load_record(context(store, data_dir).files, DENSE.key).result


def test_results_do_not_depend_on_what_the_worker_did_before(store, data_dir):
    from prunegrid.workers.stages import prune

    task = prune_task(DENSE, rate=8.0, training=ONE_EPOCH)
    where = context(store, data_dir)
    first = prune(task, where).result
    other = train_task(architecture="resnet8", data=data("synthetic32", 80), training=ONE_EPOCH)
    from prunegrid.workers.stages import train

    train(other, where)
    prune(prune_task(DENSE, method="random-local-filter", training=ONE_EPOCH), where)
    forget()
    assert prune(task, where).result == first


def test_divergence_is_recorded_and_handed_down_the_chain(data_dir, tmp_path):
    from prunegrid.workers.artifacts import load_record
    from prunegrid.workers.stages import prune, train

    where = context(tmp_path, data_dir)
    wild = train_task(training=training(learning_rate=1e30, max_epochs=4))
    assert train(wild, where).result.diverged
    child = prune_task(wild)
    record = prune(child, where)
    assert record.result.diverged
    assert record.result.epochs == 0
    assert record.result.params_left == round(61_470 / 4)
    assert np.isnan(load_record(where.files, child.key).result.train_loss)
    for key in (wild.key, child.key):
        judged = load_record(where.files, key).result
        assert np.isnan([judged.accuracy, judged.validation_accuracy]).all()
        assert judged.unusable


def test_a_chain_without_a_network_stays_without_one_where_its_weights_are_rewound(
    data_dir, tmp_path
):
    from prunegrid.workers.stages import prune, train

    where = context(tmp_path, data_dir)
    wild = train_task(training=training(learning_rate=1e30, max_epochs=4))
    train(wild, where)
    child = prune_task(wild)
    rewound = replace(child, pruning=replace(child.pruning, weights="rewind"))
    assert prune(rewound, where).result.unusable


def test_weights_kept_from_before_a_divergence_are_judged_and_pruned_on(
    data_dir, tmp_path, monkeypatch
):
    """The first epoch's weights are finite and kept; the loss is NaN in the second one."""
    from prunegrid.workers.image_rows import read_images
    from prunegrid.workers.stages import attack, prune, train
    from prunegrid.workers.training.steps import Stepper

    run, calls = Stepper.run, []

    def diverging(self, source, cursor, epoch, first, last, learning_rate):
        losses = run(self, source, cursor, epoch, first, last, learning_rate)
        calls.append(first)
        return losses * np.nan if calls.count(0) == 2 else losses

    monkeypatch.setattr(Stepper, "run", diverging)
    where = context(tmp_path, data_dir)
    task = train_task(training=training(max_epochs=9, restore_best=True))
    result = train(task, where).result
    assert result.diverged
    assert not result.unusable
    assert (result.epochs, result.accuracy > 0.3) == (1, True)
    monkeypatch.setattr(Stepper, "run", run)
    child = prune(prune_task(task, training=ONE_EPOCH), where).result
    assert (child.epochs, child.diverged) == (1, False)
    shot = attack_task(task)
    attack(shot, where)
    rows = read_images(where.files.read(layout.image_rows(shot.key))).table
    assert not any(rows["skipped"].to_pylist())


class Refusing:
    """A store that refuses its nth write."""

    def __init__(self, files, nth: int) -> None:
        self._files, self._left = files, nth

    def write(self, path, content):
        self._count(path)
        self._files.write(path, content)

    def write_once(self, path, content):
        self._count(path)
        return self._files.write_once(path, content)

    def _count(self, path):
        self._left -= 1
        if self._left == 0:
            raise StorageError(f"can't write {path}: no space left on the device")

    def __getattr__(self, name):
        return getattr(self._files, name)


def test_a_model_counts_only_once_everything_of_it_is_written(store, data_dir, tmp_path):
    from prunegrid.workers.artifacts import load_record, load_weights, save_model

    where = context(store, data_dir)
    stored, record = load_weights(where.files, DENSE.key), load_record(where.files, DENSE.key)
    for nth in (1, 2, 3, 4):
        files = context(tmp_path / str(nth), data_dir).files
        with pytest.raises(StorageError, match="no space left"):
            save_model(Refusing(files, nth), record, stored.weights, stored.masks, [])
        assert not files.exists(layout.model_record(DENSE.key))


def test_weights_that_are_not_the_recorded_ones_are_refused(store, data_dir, tmp_path):
    from prunegrid.workers.artifacts import load_weights, save_model

    good = load_weights(context(store, data_dir).files, DENSE.key)
    files = context(tmp_path, data_dir).files
    changed = {name: array + 1 for name, array in good.weights.items()}
    save_model(files, good.record, changed, good.masks, [])
    with pytest.raises(ValueError, match=good.record.result.weights_sha256[:12]):
        load_weights(files, DENSE.key)


def test_of_two_workers_the_first_one_s_result_stands(store, data_dir, tmp_path):
    """Their bits may differ, on GPUs: rows were made of the first one, and its child begun."""
    from prunegrid.workers.artifacts import load_weights, save_model, weights_sha256

    first = load_weights(context(store, data_dir).files, DENSE.key)
    files = context(tmp_path, data_dir).files
    assert save_model(files, first.record, first.weights, first.masks, []).record == first.record
    other = {name: array + 1 for name, array in first.weights.items()}
    result = replace(first.record.result, weights_sha256=weights_sha256(other))
    second = replace(first.record, result=result)
    left = save_model(files, second, other, first.masks, [])
    assert left.record == load_weights(files, DENSE.key).record == first.record
    # A result that is not whole does not stand.
    files.write(layout.model_file(DENSE.key, "weights.npz"), b"torn")
    assert save_model(files, second, other, first.masks, []).record == second
    assert load_weights(files, DENSE.key).record == second


def test_attack_writes_a_row_per_image(store, data_dir):
    from prunegrid.workers.image_rows import read_images
    from prunegrid.workers.stages import attack, train

    task = attack_task(DENSE)
    where = context(store, data_dir)
    attack(task, where)
    rows = read_images(where.files.read(layout.image_rows(task.key)))
    assert rows.task == task
    table = rows.table.to_pandas()
    assert sorted(set(table["image"])) == list(range(10, 30))
    broken = table.groupby("eps")["broken"].mean()
    assert broken[0.3] > broken[0.02]
    _check_samples(where, task, table)
    # Again, after the network held another model's weights.
    train(train_task(seed=1, training=ONE_EPOCH), where)
    attack(task, where)
    again = read_images(where.files.read(layout.image_rows(task.key))).table.to_pandas()
    found = ["image", "eps", "clean_prediction", "adversarial_prediction", "distance", "broken"]
    pd.testing.assert_frame_equal(again[found], table[found])


def test_stored_adversarials_are_adversarial_to_the_stored_model(store, data_dir):
    """FAB's end beside the boundary: as float16 they are adversarial no more."""
    from prunegrid.workers.checkpoints import unpack
    from prunegrid.workers.image_rows import read_images
    from prunegrid.workers.model_cache import network, stored
    from prunegrid.workers.models.base import set_weights
    from prunegrid.workers.stages import attack

    base = attack_task(DENSE)
    nearest = replace(base.attack, attack="fab_l2", options=(), eps=())
    task = replace(base, attack=nearest)
    where = context(store, data_dir)
    attack(task, where)
    rows = read_images(where.files.read(layout.image_rows(task.key))).table.to_pandas()
    rows = rows.set_index("image")
    forget()
    model = network(task, where)
    set_weights(model, stored(where, task.parent_key).weights)
    arrays = unpack(where.files.read(layout.adversarials(task.key)))
    images = [name for name in arrays if name.isdecimal()]
    assert images
    for image in images:
        found = int(model(arrays[image][None], training=False).numpy().argmax())
        assert found == rows.adversarial_prediction[int(image)] != rows.label[int(image)]


def _check_samples(where, task, table) -> None:
    """A few adversarials to look at, each beside the image that it was."""
    from prunegrid.workers.checkpoints import unpack
    from prunegrid.workers.data.base import load

    arrays = unpack(where.files.read(layout.adversarials(task.key)))
    images = [int(name) for name in arrays if name.isdecimal()]
    assert images
    assert len(arrays) == 2 * len(images)
    split = load(task.data, where.settings.data_dir).split(task.split)
    for image in images:
        clean, adversarial = arrays[f"clean.{image}"], arrays[str(image)]
        assert clean.dtype == adversarial.dtype == np.float32
        np.testing.assert_array_equal(clean, split.floats(image, image + 1)[0])
        change = np.abs(adversarial - clean).max()
        mine = table[(table["image"] == image) & table["broken"]].sort_values("eps")
        assert 0 < change == mine["distance"].iloc[0], "what was judged, to the last bit"


def test_results_may_go_to_a_store_of_their_own_while_parents_stay(store, data_dir, tmp_path):
    """As a search's do: a child of the grid's dense model, then a child of that one."""
    from prunegrid.workers.artifacts import load_record
    from prunegrid.workers.entry import REAL_RUNNER

    before = {path for path in store.rglob("*") if path.is_file()}
    apart = replace(context(store, data_dir).settings, results=str(tmp_path / "scratch"))
    first = prune_task(replace(DENSE, training=ONE_EPOCH), rate=2.0, parent_key=DENSE.key)
    for task in (first, prune_task(first, rate=4.0)):
        forget()
        attempt = Attempt(task=task, number=1)
        ended = REAL_RUNNER.run_attempt(attempt, apart, lambda *_: None, lambda: False)
        assert isinstance(ended, Success), ended
        assert load_record(LocalFiles(tmp_path / "scratch"), task.key).task == task
    assert {path for path in store.rglob("*") if path.is_file()} == before

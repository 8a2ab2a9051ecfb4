"""Adversarials are kept as they were verified, and shown to other models as they were kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers import layout
from prunegrid.workers.adversarials import Adversarials, most_bytes, read_adversarials
from prunegrid.workers.context import TornInput
from prunegrid.workers.contract import TransferTask
from prunegrid.workers.image_rows import parquet_bytes, read_images
from prunegrid.workers.transfer_image_rows import read_transfers
from tests.science import context, prune_task, train_task, training
from tests.workers.test_stages import attack_task

DENSE = train_task(training=training(max_epochs=2))
PRUNED = prune_task(DENSE, training=training(max_epochs=1))
IMAGES = 30
SHARDS = tuple(
    replace(attack_task(DENSE), start=start, stop=stop, keep=True)
    for start, stop in ((0, 20), (20, IMAGES))
)


def transfer_task(parent, **changes) -> TransferTask:
    first = SHARDS[0]
    task = TransferTask(
        architecture=first.architecture,
        data=first.data,
        attack=first.attack,
        split=first.split,
        images=IMAGES,
        seed=first.seed,
        source_key=DENSE.key,
        attack_keys=tuple(shard.key for shard in SHARDS),
        parent_key=parent.key,
    )
    return replace(task, **changes)


@pytest.fixture(scope="module")
def where(tmp_path_factory, data_dir, tensorflow):
    """A store with a dense and a pruned model, and the dense one's adversarials."""
    from prunegrid.workers.stages import attack, prune, train

    folder = tmp_path_factory.mktemp("transfer") / "store"
    Store.open_or_create(str(folder))
    found = context(folder, data_dir)
    train(DENSE, found)
    prune(PRUNED, found)
    for shard in SHARDS:
        attack(shard, found)
    return found


def kept(where, shard) -> Adversarials:
    return read_adversarials(where.files.read(layout.all_adversarials(shard.key)), shard.key)


def logits(where, model, images) -> np.ndarray:
    from prunegrid.workers.artifacts import load_weights
    from prunegrid.workers.models.base import build, set_weights

    network = build("cnn5", (28, 28, 1), 10, seed=0)
    set_weights(network, load_weights(where.files, model.key).weights)
    return np.asarray(network(images, training=False))


def table(where, task):
    return read_transfers(where.files.read(layout.transfer_image_rows(task.key))).table.to_pandas()


def test_to_keep_them_changes_no_key():
    assert replace(SHARDS[0], keep=False).key == SHARDS[0].key


@pytest.mark.tf
def test_every_adversarial_is_kept_as_it_was_verified(where):
    for shard in SHARDS:
        rows = read_images(where.files.read(layout.image_rows(shard.key))).table.to_pandas()
        broken = rows[rows["broken"] & (rows["distance"] > 0)]
        found = kept(where, shard)
        assert len(found) > 0
        places = dict(zip(zip(found.eps, found.image, strict=True), found.distance, strict=True))
        expected = zip(broken["eps"], broken["image"], broken["distance"], strict=True)
        assert places == {(eps, image): distance for eps, image, distance in expected}
        labels = rows.drop_duplicates("image").set_index("image")["label"]
        predicted = logits(where, DENSE, found.adversarial).argmax(axis=1)
        assert (predicted != labels[found.image].to_numpy()).all()
        size = len(where.files.read(layout.all_adversarials(shard.key)))
        most = most_bytes(shard.stop - shard.start, len(shard.attack.eps), (28, 28, 1))
        assert size < most + 4096


@pytest.mark.tf
def test_a_target_is_judged_by_its_own_predictions(where):
    from prunegrid.workers.stages import transfer

    task = transfer_task(PRUNED)
    transfer(task, where)
    rows = table(where, task)
    assert len(rows) == IMAGES * len(task.attack.eps)
    by_place = rows.set_index(["eps", "image"])
    count = 0
    for shard in SHARDS:
        found = kept(where, shard)
        predicted = logits(where, PRUNED, found.adversarial).argmax(axis=1)
        for eps, image, distance, label in zip(
            found.eps, found.image, found.distance, predicted, strict=True
        ):
            row = by_place.loc[(eps, image)]
            assert (row["prediction"], row["distance"]) == (label, distance)
            right = row["clean_prediction"] == row["label"]
            assert row["transferred"] == (right and label != row["label"])
            count += 1
    assert np.isfinite(rows["distance"]).sum() == count
    assert 0 < rows["transferred"].sum() <= count


@pytest.mark.tf
def test_its_own_adversarials_all_fool_a_model(where):
    from prunegrid.workers.stages import transfer

    task = transfer_task(DENSE)
    transfer(task, where)
    rows = table(where, task)
    shown = np.isfinite(rows["distance"])
    assert shown.any()
    assert (rows["transferred"] == shown).all()


@pytest.mark.tf
def test_a_target_at_chance_level_is_not_asked(where):
    from prunegrid.workers.stages import transfer

    high = replace(SHARDS[0].attack, skip_at_or_below_accuracy=1.0)
    task = transfer_task(PRUNED, attack=high)
    transfer(task, where)
    rows = table(where, task)
    assert rows["skipped"].all()
    assert rows["prediction"].isna().all()
    assert rows["clean_prediction"].isna().all()
    assert not rows["transferred"].any()


def shifted(found: Adversarials) -> Adversarials:
    return replace(found, image=np.roll(found.image, 1))


def too_far(found: Adversarials) -> Adversarials:
    return replace(found, eps=np.full_like(found.eps, 0.02))


def outside(found: Adversarials) -> Adversarials:
    return replace(found, adversarial=found.adversarial + np.float32(1))


def elsewhere(found: Adversarials) -> Adversarials:
    return replace(found, image=found.image + np.int32(IMAGES))


def not_a_number(found: Adversarials) -> Adversarials:
    return replace(found, adversarial=found.adversarial * np.float32(np.nan))


@pytest.mark.tf
@pytest.mark.parametrize("change", [shifted, too_far, outside, elsewhere, not_a_number])
def test_adversarials_of_other_images_are_refused(change, where):
    from prunegrid.workers.stages import transfer

    path = layout.all_adversarials(SHARDS[0].key)
    content = where.files.read(path)
    where.files.write(path, change(kept(where, SHARDS[0])).to_npz())
    try:
        with pytest.raises(TornInput, match=DENSE.key):
            transfer(transfer_task(PRUNED, seed=1), where)
    finally:
        where.files.write(path, content)


@pytest.mark.tf
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip"])
def test_missing_or_torn_adversarials_name_their_attack(content, where):
    from prunegrid.workers.stages import transfer

    path = layout.all_adversarials(SHARDS[1].key)
    before = where.files.read(path)
    where.files.remove(path)
    if content is not None:
        where.files.write(path, content)
    try:
        with pytest.raises(TornInput, match=SHARDS[1].key):
            transfer(transfer_task(PRUNED, seed=1), where)
    finally:
        where.files.write(path, before)


@pytest.mark.tf
def test_verify_predicts_some_again_and_sees_a_changed_class(where):
    from prunegrid.workers.stages import transfer

    task = transfer_task(PRUNED)
    transfer(task, where)
    store = Store.open(where.files.address)
    verifier = Verifier(store)
    assert [str(finding) for finding in verifier.findings()] == []
    assert verifier.notes == []
    path = layout.transfer_image_rows(task.key)
    content = where.files.read(path)
    rows = read_transfers(content).table
    label, found = rows.column("label").to_pylist(), rows.column("prediction").to_pylist()
    other = [
        None if f is None else next(c for c in range(10) if c not in (x, f)) if f != x else f
        for x, f in zip(label, found, strict=True)
    ]
    number = rows.schema.get_field_index("prediction")
    changed = rows.set_column(number, rows.schema.field(number), pa.array(other, pa.int16()))
    where.files.write(path, parquet_bytes(changed))
    try:
        names = {finding.name for finding in Verifier(store).findings()}
    finally:
        where.files.write(path, content)
    assert names == {"prediction-differs"}


# --------------------------------------------------------------------------- without TensorFlow


class Memory:
    def __init__(self) -> None:
        self.saved = None

    def save(self, arrays, state) -> None:
        self.saved = type("Saved", (), {"arrays": dict(arrays), "state": dict(state)})

    def load(self):
        return self.saved


def test_a_checkpoint_holds_what_was_found_so_far():
    from prunegrid.workers.attacks.base import AttackResult, Batch
    from prunegrid.workers.attacks.runtime.image_columns import ImageColumns
    from prunegrid.workers.attacks.runtime.verification import Verification

    images = np.random.default_rng(0).random((3, 2, 2, 1), np.float32)
    batch = Batch(images=images, labels=np.zeros(3, int), indices=np.arange(5, 8))
    clean = np.zeros(3, int)

    def fresh(keep: bool) -> ImageColumns:
        columns = ImageColumns(batch, (0.1, 0.2), keep=keep)
        columns.clean(clean, np.zeros(3, bool), 16)
        return columns

    def attacked(columns: ImageColumns) -> ImageColumns:
        result = AttackResult(
            images=images + 1,
            distance=np.ones(3),
            claimed=np.ones(3, bool),
            queries=np.ones(3, int),
        )
        checked = Verification(
            broken=np.array([True, False, True]),
            prediction=np.ones(3, int),
            distance=np.array([0.5, np.inf, 0.75]),
            distance_loose=None,
            distance_pixels=None,
        )
        columns.verified(np.arange(3), 1, result, checked, 16)
        return columns

    memory = Memory()
    first = attacked(fresh(keep=True))
    first.save(memory, 1)
    again = fresh(keep=True)
    assert again.load(memory) == 1
    assert again.found.keys() == first.found.keys() == {(1, 5), (1, 7)}
    for place, (distance, pixels) in first.found.items():
        assert again.found[place][0] == distance
        np.testing.assert_array_equal(again.found[place][1], pixels)
    attacked(fresh(keep=False)).save(memory, 1)
    assert fresh(keep=True).load(memory) == 0, "that attempt kept none: start over"
    assert fresh(keep=False).load(memory) == 1


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("image", np.zeros(2, np.int32)),
        ("eps", np.zeros(3, np.float32)),
        ("adversarial", np.zeros((3, 4), np.float32)),
        ("distance", None),
    ],
)
def test_arrays_of_other_shapes_or_types_are_refused(name, array):
    from prunegrid.workers.checkpoints import pack

    arrays = {
        "image": np.zeros(3, np.int32),
        "eps": np.zeros(3),
        "distance": np.zeros(3),
        "adversarial": np.zeros((3, 2, 2, 1), np.float32),
    }
    assert len(read_adversarials(pack(arrays), "attack-1")) == 3
    changed = {k: v for k, v in (arrays | {name: array}).items() if v is not None}
    with pytest.raises(ValueError, match="attack-1"):
        read_adversarials(pack(changed), "attack-1")

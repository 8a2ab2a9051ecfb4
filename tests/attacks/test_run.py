"""Attack tasks as stages run them: rows, skipping, interruption, memory, Foolbox's attacks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prunegrid.workers.catalog import ATTACKS
from prunegrid.workers.context import Interrupted
from prunegrid.workers.image_rows import IMAGE_SCHEMA, images_to_parquet, read_images
from tests.attacks.conftest import quick, settings, task

pytestmark = pytest.mark.tf

CASES = [(name, engine) for name, entry in ATTACKS.items() for engine in entry.engines]
STRICT = [name for name, engine in CASES if engine == "strict"]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_every_attack_of_the_catalog(shard, cnn5, request, name, engine):
    if name.startswith("bb_") and engine == "foolbox-stock":
        request.getfixturevalue("uncompiled_foolbox")
        if name == "bb_l2":
            pytest.skip("Foolbox's L2 solver can't be made without numba")
    use = quick(name, engine)
    count = 2 if name == "bb_linf" else 12
    columns = shard(cnn5, use, 3, 3 + count)
    table = read_images(
        images_to_parquet(columns, task=task(use, 3, 3 + count), provenance=provenance())
    ).table
    assert table.schema.names == IMAGE_SCHEMA.names
    assert table.num_rows == count * max(1, len(use.eps))
    assert columns["image"][:count] == list(range(3, 3 + count))
    broken, distance = np.array(columns["broken"]), np.array(columns["distance"])
    assert np.isfinite(distance[broken]).all()
    assert np.isinf(distance[~broken]).all()
    clean_wrong = np.array(columns["clean_prediction"]) != np.array(columns["label"])
    assert (distance[clean_wrong] == 0).all()
    assert broken[clean_wrong].all()
    assert (distance[broken & ~clean_wrong] > 0).all()
    if use.eps:
        eps = np.array(columns["eps"])
        assert (distance[broken] <= eps[broken] * (1 + 1e-4) + 1e-6).all()
    assert min(columns["queries"]) > 0
    attacked = ~clean_wrong if engine == "strict" else np.full(len(broken), True)
    backward, flat = (
        np.array(columns[each], object)[attacked] for each in ("backward_passes", "flat_passes")
    )
    counted = engine != "foolbox-stock"
    assert (np.array([b is None for b in backward]) != counted).all()
    assert (np.array([f is None for f in flat]) == (engine != "strict")).all()
    if counted:
        entry = ATTACKS[name]
        assert (backward > 0).all() if entry.gradients else (backward == 0).all()
        extra = flat * 10 if engine == "strict" else 0
        assert (backward <= np.array(columns["queries"])[attacked] + extra).all()


def provenance():
    from prunegrid.workers.records import Provenance

    return Provenance(
        task_key="k", seed=0, git_revision="", versions=(), device="cpu", threads=1, host="h",
        started_at="2024-01-01T00:00:00Z", duration_s=1.0, attempt=1,
    )  # fmt: skip


def test_a_model_at_or_below_the_threshold_is_skipped(shard, cnn5):
    use = settings("bb_l0", "strict", skip_at_or_below_accuracy=0.4)
    columns = shard(cnn5, use, 0, 3, model_accuracy=0.4)
    assert columns["skipped"] == [True] * 3
    assert columns["broken"] == [True] * 3
    assert columns["distance"] == [0.0] * 3
    assert columns["queries"] == [0] * 3
    assert columns["clean_prediction"] == [None] * 3
    ran = shard(cnn5, quick("bb_l0", "strict", skip_at_or_below_accuracy=0.4), 0, 3)
    assert ran["skipped"] == [False] * 3
    assert shard(cnn5, use, 0, 2, diverged=True)["skipped"] == [True] * 2


def test_rows_tell_a_diverged_model_from_one_below_the_threshold(shard, cnn5):
    columns = shard(cnn5, settings("bb_l0", "strict"), 0, 3, diverged=True)
    assert columns["clean_prediction"] == [-1] * 3, "as of logits that are not finite"


@pytest.fixture(scope="module")
def dead(cnn5):
    """All weights 0: one class for everything, so that no image of another class exists."""
    import keras

    model = keras.models.clone_model(cnn5)
    model.set_weights([np.zeros_like(w) for w in cnn5.get_weights()])
    return model


@pytest.mark.parametrize(("name", "engine"), [c for c in CASES if c[1] != "foolbox-stock"])
def test_a_pruned_away_network_has_no_gradients_and_no_distance(shard, dead, name, engine):
    columns = shard(dead, quick(name, engine), 0, 10)
    right = np.array(columns["label"]) == 0
    assert columns["zero_gradient"] == [True] * len(right)
    assert (np.array(columns["broken"]) == ~right).all()


def test_strict_nested_eps_keep_what_is_broken(shard, cnn5):
    options = {"steps": 10, "nested": True, "rel_stepsize": 0.2}
    base = settings("pgd_linf", "strict", eps=(0.05, 0.2), options=options)
    columns = shard(cnn5, base, 0, 24)
    small, large = np.array(columns["distance"]).reshape(2, 24)
    hit = np.isfinite(small)
    assert (small[hit] == large[hit]).all()
    plain = dataclasses.replace(base, options=(("nested", False), *base.options[1:]))
    queries = np.array(shard(cnn5, plain, 0, 24)["queries"]).reshape(2, 24)
    assert queries[1].sum() > np.array(columns["queries"]).reshape(2, 24)[1].sum()


class Kept:
    """A checkpoint in memory."""

    def __init__(self):
        self.saved = None

    def save(self, arrays, state):
        from prunegrid.workers.checkpoints import Saved

        copies = {name: np.array(value) for name, value in arrays.items()}
        self.saved = Saved(arrays=copies, state=dict(state))

    def load(self):
        return self.saved


def test_an_interrupted_shard_goes_on_where_it_was(shard, cnn5, monkeypatch):
    import prunegrid.workers.attacks.runtime.shard as run

    use = quick("cw_l2", "foolbox")
    whole = shard(cnn5, use, 0, 40)
    kept = Kept()
    calls = []

    def counted(entry, settings):
        inner = original(entry, settings)

        def go(network, part, context):
            calls.append(int(part.indices[0]))
            if calls == [0, 16]:
                raise Interrupted("asked to stop")
            return inner(network, part, context)

        return go

    original = run.engine_method
    monkeypatch.setattr(run, "engine_method", counted)
    with pytest.raises(Interrupted):
        shard(cnn5, use, 0, 40, checkpoint=kept)
    resumed = shard(cnn5, use, 0, 40, checkpoint=kept)
    assert calls == [0, 16, 16, 32]
    assert resumed == whole


def test_a_stop_request_interrupts(shard, cnn5, monkeypatch):
    from prunegrid.workers.attacks.runtime.heartbeats import Ticker

    beats = []
    for name in STRICT:
        with pytest.raises(Interrupted):
            shard(
                cnn5, quick(name, "strict"), 0, 8,
                stop_requested=lambda: True, beat=lambda f, note: beats.append((f, note)),
            )  # fmt: skip
    assert len(beats) == len(STRICT)
    assert all(0 <= f <= 1 for f, _ in beats)
    ticker = Ticker(lambda f, n: beats.append((f, n)), lambda: False)
    ticker.share(0.5, 1.0)
    ticker.share_of(1, 2)
    ticker.tick(0.5, "x")
    assert beats[-1] == (0.875, "x")


@pytest.mark.parametrize("name", STRICT)
def test_memory_pressure_halves_the_batch_and_changes_nothing(shard, cnn5, monkeypatch, name):
    import tensorflow as tf

    from prunegrid.workers.attacks.runtime.network import Network

    use = dataclasses.replace(quick(name, "strict"), batch_size=64)
    calm = shard(cnn5, use, 0, 40)
    compiled = Network.compiled
    refused = []

    def tight(self, key, function, signature):
        run = compiled(self, key, function, signature)

        def limited(*args):
            if args[0].shape[0] > 16:
                refused.append(args[0].shape[0])
                raise tf.errors.ResourceExhaustedError(None, None, "no memory")
            return run(*args)

        return limited

    monkeypatch.setattr(Network, "compiled", tight)
    monkeypatch.setattr(Network, "smaller_is_equal", lambda self, size: True)
    pressed = shard(cnn5, use, 0, 40)
    assert refused
    assert pressed["distance"] == calm["distance"]
    assert set(pressed["compute_batch"]) == {16}
    assert set(calm["compute_batch"]) == {64}

    def never(self, key, function, signature):
        def run(*args):
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")

        return run

    monkeypatch.setattr(Network, "compiled", never)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        shard(cnn5, use, 0, 4)


def test_an_attack_of_foolbox_by_its_class(shard, cnn5):
    use = settings(
        "foolbox:LinfBasicIterativeAttack", "foolbox-stock", eps=(0.1,), options={"steps": 3}
    )
    columns = shard(cnn5, use, 0, 8)
    assert len(columns["image"]) == 8
    minimum = settings(
        "foolbox:L2DeepFoolAttack", "foolbox-stock", eps=(0.1, 9.0), options={"steps": 5}
    )
    near, far = np.array(shard(cnn5, minimum, 0, 8)["broken"]).reshape(2, 8)
    assert near.sum() < far.sum()


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        ("foolbox:LinfPDG", {}, "LinfPDG.*did you mean LinfPGD"),
        ("foolbox:LinfPGD", {"stepps": 3}, "expected options of .*'steps'.*got .*stepps"),
        ("foolbox:SpatialAttack", {}, "expected an attack in L2, got one without a norm"),
        ("foolbox:Nothing!", {}, "unknown attack"),
    ],
)
def test_unusable_attacks_of_foolbox_are_refused(shard, cnn5, attack, options, message):
    use = settings(attack, "foolbox-stock", eps=(0.1,), options=options)
    with pytest.raises(ValueError, match=message):
        shard(cnn5, use, 0, 2)


def test_settings_that_cannot_be_are_refused(shard, cnn5):
    with pytest.raises(ValueError, match=r"expected options .*'steps'.*got \['stepss'\]"):
        shard(cnn5, settings("cw_l2", "strict", options={"stepss": 1}), 0, 2)
    with pytest.raises(ValueError, match=r"expected an engine of .*foolbox-stock.*got 'strict'"):
        shard(cnn5, settings("deepfool_l2", "strict"), 0, 2)
    with pytest.raises(ValueError, match="expected 3 images and labels, got 3 and 2"):
        shard(cnn5, settings("cw_l2", "strict"), 0, 3, labels=np.zeros(2, int))
    with pytest.raises(ValueError, match="expected 8 or more, got 4"):
        shard(
            cnn5, settings("bb_l0", "foolbox"), 0, 8,
            pool_images=np.zeros((4, 28, 28, 1), np.float32), pool_labels=np.zeros(4, int),
        )  # fmt: skip


@pytest.mark.parametrize("engine", ["foolbox", "foolbox-stock"])
def test_an_image_without_a_start_is_lost_alone(shard, cnn5, uncompiled_foolbox, engine):
    """The last of 17 is a batch of its own, in which Foolbox draws from no other image."""
    columns = shard(cnn5, quick("bb_l0", engine), 0, 17)
    right = np.array(columns["clean_prediction"]) == columns["label"]
    assert right[16], "the test would prove nothing"
    assert columns["distance"][16] == np.inf
    assert not columns["broken"][16]
    assert np.isfinite(np.array(columns["distance"])[:16]).all()
    whole = quick("bb_l0", engine, batch_size=1)
    alone = shard(cnn5, whole, 16, 17)
    assert alone["distance"] == [np.inf], "nor is a shard of one such image"

"""Every architecture trains, goes through every pruning method to rate 64, and is attacked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prunegrid.workers import layout
from prunegrid.workers.catalog import ARCHITECTURES, DATASETS
from prunegrid.workers.contract import AttackSettings, AttackTask, PruneTask, TrainTask
from tests.science import BY_WEIGHTS, context, data, prune_task, train_task, training

pytestmark = pytest.mark.tf

RATES = (8.0, 64.0)
ONE_EPOCH = training(max_epochs=1)
PGD = AttackSettings(
    attack="pgd_linf",
    engine="strict",
    outputs="logits",
    options=(
        ("nested", False),
        ("random_start", True),
        ("rel_stepsize", 0.5),
        ("restarts", 1),
        ("steps", 2),
    ),
    eps=(0.1,),
    batch_size=8,
    skip_at_or_below_accuracy=None,
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def dense(request, tmp_path_factory, data_dir, tensorflow):
    """(surroundings, dense task): the smallest data set of the architecture's channels."""
    from prunegrid.workers.stages import train

    where = context(tmp_path_factory.mktemp(request.param), data_dir)
    channels = ARCHITECTURES[request.param].input_shape[2]
    small = data("synthetic28" if channels == 1 else "synthetic16", 40)
    task = train_task(architecture=request.param, data=small, training=ONE_EPOCH)
    train(task, where)
    return where, task


@pytest.mark.parametrize("method", BY_WEIGHTS)
def test_to_64_and_attacked(method, dense, monkeypatch):
    """Read back from the store at each step: exact zeros, exact counts, a monotone chain. The last
    model is attacked, and again without its dead channels, which change no logits."""
    from prunegrid.workers import model_cache
    from prunegrid.workers.artifacts import load_record, load_weights
    from prunegrid.workers.export import shrink
    from prunegrid.workers.image_rows import read_images
    from prunegrid.workers.models.base import set_weights
    from prunegrid.workers.stages import attack, prune

    where, task = dense
    parent: TrainTask | PruneTask = task
    total = load_record(where.files, task.key).result.params_total
    if DATASETS[task.data.dataset].shape == ARCHITECTURES[task.architecture].input_shape:
        assert total == ARCHITECTURES[task.architecture].prunable_weights
    masks: dict[str, np.ndarray] = {}
    for rate in RATES:
        child = prune_task(parent, method=method, rate=rate, training=ONE_EPOCH)
        prune(child, where)
        result, stored = (
            load_record(where.files, child.key).result,
            load_weights(where.files, child.key),
        )
        left = 0
        for name, mask in stored.masks.items():
            kernel = stored.weights[f"{name}/kernel"]
            assert not np.any(kernel[~mask]), f"{name}: a pruned weight is not 0"
            assert not np.any(mask & ~masks.get(name, mask)), f"{name}: a weight came back"
            left += int(mask.sum())
        assert result.params_left == left
        assert result.effective_rate == total / left
        if method.endswith("unstructured"):
            assert result.effective_rate == pytest.approx(rate, rel=0.01)
        model = model_cache.network(child, where)
        set_weights(model, stored.weights)
        small = shrink.shrink(model)  # raises ShrinkError where logits differ
        shrunk, whole = small.count_params(), model.count_params()
        assert shrunk < whole if method.endswith("filter") else shrunk <= whole
        masks, parent = stored.masks, child
    shot = AttackTask(
        architecture=task.architecture,
        data=task.data,
        attack=PGD,
        split="test",
        start=0,
        stop=8,
        seed=0,
        parent_key=parent.key,
    )
    attack(shot, where)
    rows = read_images(where.files.read(layout.image_rows(shot.key))).table.to_pydict()
    assert rows["image"] == list(range(8))
    wrong = [c != y for c, y in zip(rows["clean_prediction"], rows["label"], strict=True)]
    assert all(broken for broken, w in zip(rows["broken"], wrong, strict=True) if w)
    monkeypatch.setattr(shrink, "WORTH_MULTIPLY_ADDS", 0)
    again = dataclasses.replace(shot, attack=dataclasses.replace(PGD, network="shrunk"))
    attack(again, where)
    other = read_images(where.files.read(layout.image_rows(again.key))).table.to_pydict()
    assert other["clean_prediction"] == rows["clean_prediction"]
    on = {n for n, w in zip(other["attacked_network"], wrong, strict=True) if not w}
    kinds = {"shrunk", "redone"} if model_cache.shrunk(model, again.attack) else {"stored"}
    assert on <= kinds
    if method.endswith("filter"):
        assert "stored" not in kinds, "a quarter of the work is left at most"

"""An attack that is a function of the user's: what it is given, and how it is judged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers.attacks.base import row_norms
from prunegrid.workers.catalog import attack_of
from prunegrid.workers.contract import (
    AttackSettings,
    AttackTask,
    OwnAttack,
    task_from_dict,
    task_to_dict,
)
from tests.grids import SMALL
from tests.science import data

SHAPE = (6, 6, 1)


# --------------------------------------------------------------------------- functions


def brighter(images, eps, rngs, *, draws: int = 3, sign: float = 1.0):
    """As bright as it may be, with a little noise of each image's own."""
    noise = np.stack([rng.random((draws, *SHAPE), np.float32).mean(axis=0) for rng in rngs])
    return np.clip(images + sign * eps * (1 - noise / 100), 0, 1), draws


def to_white(images, labels, network):
    assert network.logits(images).shape == (len(images), network.classes)
    return np.ones_like(images)


def too_far(images, eps):
    return np.clip(images + 2 * eps, 0, 1)


def outside(images, eps):
    return images + 2


def of_another_shape(images, eps):
    return images[:-1]


def not_numbers(images, eps):
    return np.full_like(images, np.nan)


def of_many_queries(images, eps):
    return images, np.zeros(3)


# --------------------------------------------------------------------------- by hand


def settings(function, *, eps=(), norm="linf", batch=16, **options) -> AttackSettings:
    return AttackSettings(
        attack=f"{__name__}:{function.__name__}",
        engine="strict",
        outputs="logits",
        options=tuple(sorted(options.items())),
        eps=eps,
        batch_size=batch,
        skip_at_or_below_accuracy=None,
        own=OwnAttack(
            norm=norm, finds="fixed-eps" if eps else "minimum-norm", gradients=False, version=1
        ),
    )


@pytest.fixture(scope="module")
def model(tensorflow):
    """Says 1 where an image's mean is above one half, else 0."""
    import keras

    inputs = keras.Input(SHAPE)
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(2)(mean)
    made = keras.Model(inputs, outputs)
    made.layers[-1].set_weights([np.array([[-9.0, 9.0]]), np.array([4.5, -4.5])])
    return made


IMAGES = np.random.default_rng(3).random((40, *SHAPE), np.float32) * 0.5
LABELS = (IMAGES.mean(axis=(1, 2, 3)) > 0.5).astype(int)


def attacked(model, how: AttackSettings, start: int = 0, stop: int = 40):
    from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard

    task = AttackTask(
        architecture="none",
        data=data("synthetic28", 40),
        attack=how,
        split="test",
        start=start,
        stop=stop,
        seed=0,
        parent_key="train-0",
    )
    request = ShardRequest(
        task=task,
        images=IMAGES[start:stop],
        labels=LABELS[start:stop],
        pool_images=None,
        pool_labels=None,
        model_accuracy=1.0,
    )
    quiet = {"beat": lambda *_: None, "stop_requested": lambda: False}
    return attack_shard(model, request, **quiet)


def test_it_breaks_what_it_breaks_at_each_eps(model):
    columns, samples = attacked(model, settings(brighter, eps=(0.1, 0.3), draws=2))
    means = IMAGES.mean(axis=(1, 2, 3))
    for k, eps in enumerate((0.1, 0.3)):
        mine = slice(40 * k, 40 * (k + 1))
        near = np.abs(means + eps - 0.5) < 0.02
        broken = np.array(columns["broken"][mine])
        assert (broken == (means + eps > 0.5))[~near].all()
        distances = np.array(columns["distance"][mine])
        assert (distances[broken] <= eps * (1 + 1e-4)).all()
        assert np.isinf(distances[~broken]).all()
    assert set(columns["queries"]) == {2 + 2}, "two of its own, the clean image, the verification"
    assert samples


def test_a_nearest_image_has_a_distance_in_its_norm(model):
    for norm in ("l0", "l1", "l2", "linf"):
        columns, _ = attacked(model, settings(to_white, norm=norm))
        assert all(columns["broken"])
        expected = row_norms(1 - IMAGES, norm)
        np.testing.assert_allclose(columns["distance"], expected, rtol=1e-6)
        assert set(columns["queries"]) == {1 + 2}


def test_an_images_result_does_not_depend_on_its_shard(model):
    how = settings(brighter, eps=(0.25,))
    whole, _ = attacked(model, how)
    parts = [attacked(model, how, a, b)[0] for a, b in ((0, 7), (7, 30), (30, 40))]
    for name in ("broken", "distance", "adversarial_prediction"):
        assert whole[name] == [value for part in parts for value in part[name]]


def test_an_image_beyond_eps_is_not_broken(model):
    columns, _ = attacked(model, settings(too_far, eps=(0.3,)))
    assert not any(columns["broken"])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (outside, r"outside: expected images in \[0, 1\], got pixels from 2"),
        (of_another_shape, r"floats \[16, 6, 6, 1\], got float32 \[15, 6, 6, 1\]"),
        (not_numbers, "got pixels from nan"),
        (of_many_queries, r"one for each of 16 images, got \[3\]"),
    ],
)
def test_what_is_no_image_fails_the_task(function, words, model):
    with pytest.raises(ValueError, match=words):
        attacked(model, settings(function, eps=(0.1,)))


def test_l1_by_hand():
    delta = np.array([[[1.0, -2.0]], [[0.0, 0.25]]])
    assert row_norms(delta, "l1").tolist() == [3.0, 0.25]


# --------------------------------------------------------------------------- in a grid file


def grid(attack: str, protocols: str = ""):
    text = SMALL.replace("pgd_linf: {steps: 3}", f"mine: {attack}").replace("pgd_linf:", "mine:")
    return parse_grid(text + protocols, source="grid.yaml")


MINE = "{run: 'tests.attacks.test_function_attack:brighter', norm: linf, finds: fixed-eps%s}"


def settled(attack: str, protocols: str = "") -> AttackSettings:
    attacks = grid(attack, protocols).architectures[0].attacks
    return next(a.settings for a in attacks if a.label == "mine")


def test_its_parameters_are_the_options():
    found = settled(MINE % ", gradients: false, options: {draws: 5}")
    assert found.options == (("draws", 5), ("sign", 1.0))
    entry = attack_of(found)
    assert entry is not None
    assert (entry.norm, entry.finds, entry.gradients, entry.engines) == (
        "linf", "fixed-eps", False, ("strict",),
    )  # fmt: skip
    assert [option.name for option in entry.options] == ["draws", "sign"]
    l1 = settled((MINE % "").replace("linf", "l1"))
    assert l1.own is not None
    assert l1.own.norm == "l1"


def test_its_key_follows_what_it_is_and_not_its_label():
    tasks = [t for t in expand(grid(MINE % "")).tasks.values() if isinstance(t, AttackTask)]
    mine = next(task for task in tasks if task.attack.own)
    assert task_from_dict(task_to_dict(mine)) == mine
    for change in ({"norm": "l1"}, {"version": 2}, {"gradients": False}):
        other = dataclasses.replace(mine.attack.own, **change)
        attack = dataclasses.replace(mine.attack, own=other)
        assert dataclasses.replace(mine, attack=attack).key != mine.key
    assert all("own" not in str(t.attack.options) for t in tasks)


def test_a_protocol_changes_its_options():
    found = settled(MINE % "", "protocols: {p: {attacks: {mine: {options: {draws: 7}}}}}\n")
    assert dict(found.options)["draws"] == 7


REFUSED = {
    "no norm": (MINE.replace("norm: linf, ", "") % "", ["'norm'", "no default"]),
    "another norm": (MINE.replace("linf", "l3") % "", ["l0, l1, l2, linf", "'l3'"]),
    "nothing found": (MINE.replace("fixed-eps", "fixed") % "", ["did you mean 'fixed-eps'"]),
    "no eps to find at": (
        MINE.replace("fixed-eps", "minimum-norm") % "",
        ["no parameter eps of", "with minimum-norm, got one"],
    ),
    "no parameter for eps": (
        MINE.replace("brighter", "to_white") % "",
        ["a parameter eps of", "with fixed-eps, got none"],
    ),
    "a misspelt option": (MINE % ", options: {draw: 1}", ["did you mean 'draws'"]),
    "an option beside": (MINE % ", draws: 1", ["unknown key", "'draws'"]),
    "a class of Foolbox's": (
        MINE.replace("tests.attacks.test_function_attack:brighter", "foolbox:LinfPGD") % "",
        ["expected a function of your own", "`attack: foolbox:LinfPGD`"],
    ),
    "a file without functions": (
        MINE.replace("tests.attacks.test_function_attack", "tests.attacks") % "",
        ["in __init__.py, which defines none, got 'brighter'"],
    ),
    "no function": (MINE.replace("brighter", "dimmer") % "", ["got 'dimmer'", "brighter"]),
    "a catalog's attack too": (MINE % ", attack: pgd_linf", ["`run` or `attack`, got both"]),
    "another engine": (MINE % ", engine: foolbox", ["strict", "'foolbox'"]),
    "a norm of the catalog's": ("{attack: pgd_linf, norm: l2}", ["unknown key", "'norm'"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_attack_is_refused_at_its_line(name):
    text, words = REFUSED[name]
    with pytest.raises(GridError) as refusal:
        grid(text)
    assert str(refusal.value).startswith("grid.yaml:15: attacks.mine")
    for word in words:
        assert word in str(refusal.value)


def test_another_protocols_engine_leaves_it_out_or_says_so():
    with pytest.raises(GridError, match="mine has no foolbox: expected one of strict"):
        grid(MINE % "", "protocols: {paper: {engine: foolbox}}\n")

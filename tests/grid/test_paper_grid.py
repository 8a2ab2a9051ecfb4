"""grid.yaml is the paper's experiment: all its numbers, each in the file to see and to change."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.attack_fields import ProtocolTable
from prunegrid.orchestrator.grid.file import ArchitectureTable, TrainingTable, parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers.catalog import ATTACKS
from prunegrid.workers.contract import TrainingSettings
from tests.speed import reference_s

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "grid.yaml").read_text()
BOTH = TEXT.replace("enabled: false", "enabled: true")
PLAN = parse_grid(TEXT, source="grid.yaml")
ATTACK_NAMES = ("pgd_linf", "cw_l2", "bb_l0")
#: The attack of each norm that `strict` takes.
STRONGEST = ("exchange_l0", "target_race_l2", "target_race_linf")

#: architecture: data set, attacked images, then eps as the figures' axes have them.
TABLE = {
    "cnn5": ("mnist", 1000, (3, 6, 9, 12), (1, 2, 3, 4), (4, 8, 16, 32)),
    "resnet8": ("cifar10", 1000, (2, 4, 6, 8), (2, 2.5, 3, 3.5), (0.25, 0.5, 1, 2)),
    "vgg11": ("cifar10", 1000, (2, 6, 10, 14), (1.5, 2.5, 3.5, 4.5), (0.125, 0.25, 0.5, 1)),
    "resnet18": ("imagenette", 256, (20, 70, 120, 170), (10, 15, 20, 25), (0.25, 0.5, 1, 2)),
}
LARGE = TrainingSettings(
    batch_size=128,
    learning_rate=0.001,
    max_epochs=150,
    early_stopping_patience=15,
    lr_factor=0.3,
    lr_patience=12,
    lr_min=1e-5,
    augmentation="flip_crop_6",
    restore_best=False,
    adversarial=None,
)
TRAINING = {
    "cnn5": replace(
        LARGE,
        batch_size=64,
        early_stopping_patience=5,
        lr_factor=None,
        lr_patience=None,
        lr_min=None,
        augmentation="none",
    ),
    "resnet8": LARGE,
    "vgg11": LARGE,
    "resnet18": replace(LARGE, augmentation="flip_crop_60"),
}
PGD = {"steps": 40, "rel_stepsize": 0.01 / 0.3, "random_start": True, "restarts": 1}
CW = {"binary_search_steps": 9, "steps": 5000, "stepsize": 1, "initial_const": 100}
BB = {"binary_search_steps": 30, "steps": 500, "lr": 1e7, "lr_decay": 0.5, "lr_num_decay": 30}


def test_the_axes():
    assert PLAN.seeds == (0, 1, 2, 3, 4)
    assert PLAN.rates == (1, 2, 4, 8, 16, 32, 64)
    assert set(PLAN.methods) == {
        f"{selection}-{structure}"
        for selection in ("magnitude-local", "magnitude-global", "random-local")
        for structure in ("unstructured", "kernel", "filter")
    }
    assert len(PLAN.methods) == 9
    assert PLAN.dense_model == "per_method"
    assert {plan.name for plan in PLAN.architectures} == set(TABLE)


@pytest.mark.parametrize("plan", PLAN.architectures, ids=lambda plan: plan.name)
def test_each_architecture(plan):
    dataset, images, l0, l2, linf = TABLE[plan.name]
    assert (plan.data.dataset, plan.data.validation_frac) == (dataset, 0.1)
    assert plan.data.train_images is None
    assert plan.attack_images == images
    eps = {attack.label: attack.eps for attack in plan.attacks}
    assert eps["bb_l0"] == l0
    assert eps["cw_l2"] == l2
    assert eps["pgd_linf"] == pytest.approx([e / 255 for e in linf], rel=1e-12)
    (variant,) = plan.variants
    assert variant.training == variant.fine_tuning == TRAINING[plan.name]
    assert (variant.pruning.schedule, variant.pruning.weights) == ("iterative", "retain")


def attacks_of(text: str, protocol: str, architecture: str):
    grid = parse_grid(text, source="grid.yaml")
    (plan,) = (plan for plan in grid.architectures if plan.name == architecture)
    return {a.label: a for a in plan.attacks if a.protocol == protocol}


@pytest.mark.parametrize("architecture", TABLE)
def test_protocol_paper(architecture):
    attacks = attacks_of(TEXT, "paper", architecture)
    assert set(attacks) == set(ATTACK_NAMES)
    for label, expected in (("pgd_linf", PGD), ("cw_l2", CW), ("bb_l0", BB)):
        settings = attacks[label].settings
        assert expected.items() <= dict(settings.options).items()
        assert (settings.engine, settings.outputs) == ("foolbox", "softmax")
        assert attacks[label].split == ("test" if architecture == "cnn5" else "validation")
        assert settings.skip_at_or_below_accuracy == (0.4 if label == "bb_l0" else None)
    assert dict(attacks["cw_l2"].settings.options)["confidence"] == 0
    assert dict(attacks["cw_l2"].settings.options)["abort_early"] is True


def test_an_attack_is_the_same_in_every_protocol():
    """A label with two algorithms would be compared as one."""
    changed = BOTH.replace("bb_l0: none", "bb_l0: {attack: exchange_l0}")
    assert changed != BOTH
    with pytest.raises(GridError, match=r"bb_l0 is the same attack in every protocol: .*`attack`"):
        parse_grid(changed, source="grid.yaml")


@pytest.mark.parametrize("architecture", TABLE)
def test_protocol_strict(architecture):
    attacks = attacks_of(BOTH, "strict", architecture)
    assert set(attacks) == set(STRONGEST)
    papers = {
        ATTACKS[name].norm: a.eps for name, a in attacks_of(BOTH, "paper", architecture).items()
    }
    for name, attack in attacks.items():
        assert attack.settings.eps == ()
        assert attack.eps == papers[ATTACKS[name].norm]
        set_there = {"passes": 500} if name == "exchange_l0" else {}
        defaults = {o.name: o.default for o in ATTACKS[name].options}
        assert dict(attack.settings.options) == defaults | set_there
        assert (attack.settings.engine, attack.settings.outputs) == ("strict", "logits")
        assert attack.split == "test"
        assert attack.settings.skip_at_or_below_accuracy is None


def test_both_protocols_attack_the_same_models():
    one, two = expand(PLAN), expand(parse_grid(BOTH, source="grid.yaml"))
    assert (len(one.models), len(one.cells)) == (1260, 15120)
    assert (len(two.models), len(two.cells)) == (1260, 30240)
    assert set(one.tasks) < set(two.tasks)


OF_OWN_NETWORKS = {"build", "options", "version", "model", "weights"}


def test_every_setting_is_in_the_file():
    whole = yaml.safe_load(TEXT)
    assert set(whole["training"]) == set(TrainingTable.names())
    for own in whole["architectures"].values():
        left_out = {"train_images", "fine_tuning", "prune_except", *OF_OWN_NETWORKS}
        assert set(ArchitectureTable.names()) - set(own) == left_out
    assert set(whole["attacks"]) == {*ATTACK_NAMES, *STRONGEST}
    for name in whole["attacks"]:
        assert set(whole["attacks"][name]) == {option.name for option in ATTACKS[name].options}
    for own in whole["protocols"].values():
        assert set(own) == set(ProtocolTable.names())


@pytest.mark.parametrize("name", ATTACK_NAMES)
def test_every_setting_of_an_attack_can_be_changed(name):
    before = dict(attacks_of(TEXT, "paper", "cnn5")[name].settings.options)
    whole = yaml.safe_load(TEXT)
    for option, value in whole["attacks"][name].items():
        other = (not value) if isinstance(value, bool) else 2 * float(value) or 0.5
        other = int(other) if isinstance(other, float) and other.is_integer() else other
        changed = {**whole, "attacks": {**whole["attacks"]}}
        changed["attacks"][name] = {**whole["attacks"][name], option: other}
        after = dict(attacks_of(yaml.safe_dump(changed), "paper", "cnn5")[name].settings.options)
        assert after == {**before, option: other}


def test_a_disabled_protocol_is_checked_and_not_run():
    assert {a.protocol for plan in PLAN.architectures for a in plan.attacks} == {"paper"}
    with pytest.raises(GridError, match=r"outputs: expected .*logits.*softmax.*'lodgits'"):
        parse_grid(TEXT.replace("outputs: logits", "outputs: lodgits"), source="grid.yaml")
    with pytest.raises(GridError, match="with `enabled: true`, got paper, strict all disabled"):
        parse_grid(TEXT.replace("enabled: true", "enabled: false"), source="grid.yaml")


def test_the_plan_takes_less_than_two_seconds():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-m", "prunegrid", "plan", "grid.yaml", "--json"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # processor time: others may be busy
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert 0.1 < spent_s < 30 * reference_s(), "two seconds where it took 1.1"
    counts = json.loads(done.stdout)
    assert (counts["models"], counts["cells"], counts["remaining"]) == (1260, 15120, 16380)

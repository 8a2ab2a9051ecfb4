"""Foolbox's own attacks, any of them by class name, run as its users would."""

from __future__ import annotations

import dataclasses
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
from prunegrid.workers.attacks.foolbox_classes import make_attack, minimises
from prunegrid.workers.attacks.runtime.draws import seeded_foolbox
from prunegrid.workers.attacks.runtime.network import Network
from prunegrid.workers.attacks.runtime.starts import dataset_starts
from prunegrid.workers.keys import Scalar


class FoolboxAttack:
    """The attack of Foolbox that an entry names, with these options. Raises what `make_attack`
    does."""

    def __init__(self, entry: AttackEntry, options: Mapping[str, Scalar]) -> None:
        self._norm = entry.norm
        self._name = entry.foolbox_class or entry.name
        self._restarts = int(options.get("restarts") or 1)
        self._nested = bool(options.get("nested"))
        self._attack = make_attack(entry, options)
        self._minimises = minimises(self._attack)
        parameters = inspect.signature(self._attack.run).parameters
        self._wants_starts = "starting_points" in parameters

    def run(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """Foolbox's result on this batch; a claim is what Foolbox calls a success.

        A minimum-norm attack that is given eps runs once, and its distances are compared to each.
        """
        import foolbox

        calls = 0

        def counted(x: tf.Tensor) -> tf.Tensor:
            nonlocal calls
            calls += 1
            context.ticker.tick(0.0, f"foolbox {self._name}, {calls} model calls")
            return network.scores(x)

        device = "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
        model = foolbox.TensorFlowModel(counted, bounds=(0, 1), device=device)
        attack = self._attack.repeat(self._restarts) if self._restarts > 1 else self._attack
        asked: list[float | None] = [None] if self._minimises else list(context.eps)
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
        if self._minimises and context.eps:
            found = [_within(found[0], eps) for eps in context.eps]
        return nest(found) if self._nested else tuple(found)


def _within(result: AttackResult, eps: float) -> AttackResult:
    claimed = result.claimed & (result.distance <= eps)
    distance = np.where(claimed, result.distance, np.inf)
    return dataclasses.replace(result, claimed=claimed, distance=distance)

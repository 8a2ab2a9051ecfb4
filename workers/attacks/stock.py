"""Stock Foolbox: any of its attacks by class name, run as its users would."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.base import Batch, Found, Job, row_norms
from prunegrid.workers.attacks.draws import seeded_foolbox
from prunegrid.workers.attacks.network import Network
from prunegrid.workers.attacks.pgd import nest
from prunegrid.workers.attacks.starts import dataset_starts
from prunegrid.workers.catalog import AttackEntry
from prunegrid.workers.keys import Scalar

#: Options that are the runner's, not the class's.
_OURS = ("restarts", "nested")


def stock_classes() -> dict[str, type]:
    """Every attack of foolbox.attacks that can be run, short names such as LinfPGD included."""
    import foolbox.attacks
    from foolbox.attacks.base import Attack

    return {
        name: value
        for name, value in vars(foolbox.attacks).items()
        if inspect.isclass(value) and issubclass(value, Attack) and not inspect.isabstract(value)
    }


def stock_class(name: str) -> type:
    """Raises ValueError with near names where foolbox.attacks has no such class."""
    known = stock_classes()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"expected one of {sorted(known)}"
    raise ValueError(f"foolbox.attacks has no attack {name!r}; {hint}")


class StockAttack:
    """Raises ValueError on a class or options that Foolbox does not have, and on L1 attacks,
    whose norm the store has no rows for; RuntimeError where the class needs numba, and there
    is none."""

    def __init__(self, entry: AttackEntry, options: Mapping[str, Scalar]) -> None:
        self._entry = entry
        self._restarts = int(options.get("restarts") or 1)
        self._nested = bool(options.get("nested"))
        found = stock_class(entry.stock)
        if "L1" in found.__name__ or found.__name__ == "EADAttack":
            raise ValueError(f"{entry.stock}: expected an L0, L2 or Linf attack, got an L1 attack")
        self._attack = _construct(found, entry, options)
        parameters = inspect.signature(self._attack.run).parameters
        self._wants_starts = "starting_points" in parameters

    def run(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """Foolbox's result on this batch; a claim is what Foolbox calls a success.

        A minimum-norm attack asked for eps runs once, and its distances are held against each.
        """
        import foolbox
        from foolbox.attacks.base import MinimizationAttack

        calls = 0

        def counted(x: tf.Tensor) -> tf.Tensor:
            nonlocal calls
            calls += 1
            job.ticker.tick(0.0, f"foolbox {self._entry.stock}, {calls} model calls")
            return network.scores(x)

        device = "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
        model = foolbox.TensorFlowModel(counted, bounds=(0, 1), device=device)
        attack = self._attack.repeat(self._restarts) if self._restarts > 1 else self._attack
        minimises = isinstance(self._attack, MinimizationAttack)
        asked: list[float | None] = [None] if minimises else list(job.eps)
        keep = np.arange(len(batch))
        extra: dict[str, Any] = {}
        found = []
        with seeded_foolbox(job.seed, job.stream):
            if self._wants_starts and job.pool is not None:
                starts, started = dataset_starts(network, batch, job, np.random.shuffle)
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
            found.append(self._found(batch, images, claimed, calls // len(asked)))
        if minimises and job.eps:
            found = [_within(found[0], eps, calls) for eps in job.eps]
        return nest(found) if self._nested else tuple(found)

    def _found(self, batch: Batch, images: np.ndarray, claimed: np.ndarray, calls: int) -> Found:
        norms = row_norms(images - batch.images, self._entry.norm)
        return Found(
            images=images,
            claimed=claimed,
            distance=np.where(claimed, norms, np.inf),
            queries=np.full(len(batch), calls, np.int64),
        )


def _construct(found: type, entry: AttackEntry, options: Mapping[str, Scalar]) -> Any:
    import foolbox.distances

    own: dict[str, Any] = {name: value for name, value in options.items() if name not in _OURS}
    parameters = inspect.signature(found).parameters
    if "distance" in parameters:
        own.setdefault("distance", getattr(foolbox.distances, entry.norm))
    if unknown := sorted(set(own) - set(parameters)):
        raise ValueError(f"{entry.stock}: expected options of {sorted(parameters)}, got {unknown}")
    try:
        return found(**own)
    except TypeError as error:
        raise ValueError(
            f"{entry.stock}: expected options of {sorted(parameters)}: {error}"
        ) from error
    except ImportError as error:
        raise RuntimeError(
            f"stock {entry.stock} needs numba (pip install numba), got: {error}; "
            "the engines strict and foolbox do without"
        ) from error


def _within(found: Found, eps: float, calls: int) -> Found:
    claimed = found.claimed & (found.distance <= eps)
    return Found(
        images=found.images,
        claimed=claimed,
        distance=np.where(claimed, found.distance, np.inf),
        queries=np.full(len(claimed), calls, np.int64),
    )

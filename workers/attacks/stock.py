"""Stock Foolbox: any of its attacks by class name, run as its users would."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from workers.attacks.base import Batch, Found, Job, row_norms
from workers.attacks.draws import seeded_foolbox
from workers.attacks.network import Network
from workers.attacks.starts import dataset_starts
from workers.catalog import AttackEntry
from workers.keys import Scalar

#: Options that are the runner's, not the class's.
_OURS = ("restarts", "nested")


def stock_class(name: str) -> type:
    """Raises ValueError with near names where foolbox.attacks has no such class."""
    import foolbox.attacks
    from foolbox.attacks.base import Attack

    found = getattr(foolbox.attacks, name, None)
    if inspect.isclass(found) and issubclass(found, Attack) and not inspect.isabstract(found):
        return found
    names = [
        key
        for key, value in vars(foolbox.attacks).items()
        if inspect.isclass(value) and issubclass(value, Attack) and not inspect.isabstract(value)
    ]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"expected one of {sorted(names)}"
    raise ValueError(f"foolbox.attacks has no attack {name!r}; {hint}")


class StockAttack:
    def __init__(self, entry: AttackEntry, options: Mapping[str, Scalar]) -> None:
        self._entry = entry
        self._restarts = int(options.get("restarts") or 1)
        self._nested = bool(options.get("nested"))
        own = {name: value for name, value in options.items() if name not in _OURS}
        found = stock_class(entry.stock)
        try:
            self._attack: Any = found(**own)
        except TypeError as error:
            known = sorted(set(inspect.signature(found).parameters) - {"self"})
            raise ValueError(
                f"foolbox:{entry.stock}: got options {sorted(own)}, expected some of {known}"
            ) from error

    def run(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """Foolbox's result on this batch; a claim is what Foolbox calls a success."""
        import foolbox

        calls = 0

        def counted(x: tf.Tensor) -> tf.Tensor:
            nonlocal calls
            calls += 1
            job.ticker.tick(0.0, f"foolbox {self._entry.stock}, {calls} model calls")
            return network.scores(x)

        device = "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
        model = foolbox.TensorFlowModel(counted, bounds=(0, 1), device=device)
        attack = self._attack.repeat(self._restarts) if self._restarts > 1 else self._attack
        x = tf.constant(batch.images)
        labels = tf.constant(batch.labels.astype(np.int64))  # eagerpy compares equal types alone
        keep = np.arange(len(batch))
        extra: dict[str, Any] = {}
        with seeded_foolbox(job.seed, job.stream):
            if "BrendelBethge" in self._entry.stock and job.pool is not None:
                starts, started = dataset_starts(network, batch, job)
                keep = np.flatnonzero(started)
                x, labels = tf.gather(x, keep), tf.gather(labels, keep)
                extra["starting_points"] = tf.constant(starts[keep])
            if not len(keep):
                return (_nothing(batch, calls),)
            criterion = foolbox.criteria.Misclassification(labels)
            eps: list[float | None] = list(job.eps) or [None]
            _, clipped, success = attack(model, x, criterion, epsilons=eps, **extra)
        found = []
        for k in range(len(eps)):
            images = batch.images.copy()
            images[keep] = clipped[k].numpy()
            claimed = np.zeros(len(batch), bool)
            claimed[keep] = success[k].numpy()
            norms = row_norms(images - batch.images, self._entry.norm)
            found.append(
                Found(
                    images=images,
                    claimed=claimed,
                    distance=np.where(claimed, norms, np.inf),
                    queries=np.full(len(batch), calls // len(eps), np.int64),
                )
            )
        if self._nested:
            from workers.attacks.pgd import nest

            return nest(found)
        return tuple(found)


def _nothing(batch: Batch, calls: int) -> Found:
    n = len(batch)
    return Found(
        images=batch.images,
        claimed=np.zeros(n, bool),
        distance=np.full(n, np.inf),
        queries=np.full(n, calls, np.int64),
    )

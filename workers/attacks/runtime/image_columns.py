"""The columns of image rows while an attack fills them, and their checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from prunegrid.workers.attacks.base import AttackResult, Batch
from prunegrid.workers.attacks.declaration import AttackEntry
from prunegrid.workers.attacks.runtime.verification import Verification

#: Adversarial images kept to be looked at.
SAMPLES = 4


class ImageCheckpoint(Protocol):
    """Where finished images of an unfinished task are kept; `workers.checkpoints.Checkpoint`."""

    def load(self) -> Any:
        """None, or an object with the `arrays` and the `state` saved last."""

    def save(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None: ...


class ImageColumns:
    """Arrays [eps or 1, n]. An image counts as broken at distance 0 until it was attacked, which
    is what a misclassified or skipped one stays."""

    def __init__(self, batch: Batch, eps: tuple[float, ...], *, keep: bool = False) -> None:
        """`keep`: all adversarials, in `found`."""
        self._batch = batch
        self._eps: tuple[float | None, ...] = eps or (None,)
        shape = (len(self._eps), len(batch))
        self._skipped, self._predicted = False, True
        self._clean = np.full(len(batch), -1, np.int64)
        self._zero = np.zeros(len(batch), bool)
        self._values = {
            "prediction": np.full(shape, -1, np.int64),
            "distance": np.zeros(shape),
            "loose": np.zeros(shape),
            "pixels": np.zeros(shape),
            "broken": np.ones(shape, bool),
            "verified": np.zeros(shape, bool),
            "queries": np.zeros(shape, np.int64),
            "first": np.full(shape, -1, np.int8),  # -1: not an attack of steps
            "backward": np.full(shape, -1, np.int64),  # -1: not known
            "flat": np.full(shape, -1, np.int64),
            "by": np.full(shape, "", "U16"),
            "network": np.full(shape, "", "U8"),  # "": not attacked
            "compute_batch": np.zeros(shape, np.int64),
        }
        self.samples: dict[int, np.ndarray] = {}
        self._keep = keep
        #: By number of the eps and by index in the split: distance and pixels.
        self.found: dict[tuple[int, int], tuple[float, np.ndarray]] = {}

    def skip(self, *, diverged: bool) -> None:
        """Nothing runs. Of a diverged model the clean predictions are known: no class."""
        self._skipped, self._predicted = True, diverged

    def clean(self, prediction: np.ndarray, zero: np.ndarray, compute_batch: int) -> None:
        """Clean predictions (-1 where logits are not finite) and all-zero gradients, [n]."""
        self._clean, self._zero = prediction, zero
        self._values["queries"] += 1
        self._values["compute_batch"][:] = compute_batch
        wrong = prediction != self._batch.labels
        self._values["prediction"][:, wrong] = prediction[wrong]
        self._values["verified"][:, wrong] = True

    def seen_again(self) -> None:
        """The clean images went through another network too."""
        self._values["queries"] += 1

    def verified(
        self,
        rows: np.ndarray,
        k: int,
        result: AttackResult,
        checked: Verification,
        compute_batch: int | np.ndarray,
        network: str | np.ndarray = "stored",
    ) -> None:
        """Results of the k-th eps on `rows`; misclassified ones among them stay as they are.

        `compute_batch`, `network`: of all rows, or of each, [len(rows)]."""
        right = self._clean[rows] == self._batch.labels[rows]
        use, values = rows[right], self._values
        values["queries"][k, rows] += result.queries + 1
        values["compute_batch"][k, rows] = compute_batch
        values["network"][k, use] = np.broadcast_to(network, len(rows))[right]
        values["broken"][k, use] = checked.broken[right]
        values["verified"][k, use] = checked.broken[right]
        values["distance"][k, use] = checked.distance[right]
        values["prediction"][k, use] = np.where(checked.broken, checked.prediction, -1)[right]
        for name, other in (
            ("loose", checked.distance_loose),
            ("pixels", checked.distance_pixels),
        ):
            if other is not None:
                values[name][k, use] = other[right]
        for name, counts in (("backward", result.backward), ("flat", result.flat)):
            if counts is not None:
                values[name][k, rows] = counts
        if result.broken_by is not None:
            values["by"][k, use] = np.where(checked.broken, result.broken_by, "")[right]
        if result.first_step is not None:
            values["first"][k, rows] = 0
            values["first"][k, use] = result.first_step[right]
        for i in np.flatnonzero(checked.broken & right):
            index = int(self._batch.indices[rows[i]])
            if len(self.samples) < SAMPLES and index not in self.samples:
                self.samples[index] = result.images[i]
            if self._keep:
                self.found[k, index] = float(checked.distance[i]), result.images[i].copy()

    def save(self, checkpoint: ImageCheckpoint, done: int) -> None:
        """`done`: slices of the shard that are finished."""
        arrays = {f"value.{name}": value for name, value in self._values.items()}
        arrays |= {f"sample.{index}": image for index, image in self.samples.items()}
        if self._keep:
            arrays |= {f"found.{k}.{index}": image for (k, index), (_, image) in self.found.items()}
            arrays["found"] = np.array([distance for distance, _ in self.found.values()])
        checkpoint.save(arrays | {"clean": self._clean}, {"slices": done})

    def load(self, checkpoint: ImageCheckpoint) -> int:
        """Slices finished before; 0 where there is nothing, or other clean predictions."""
        saved = checkpoint.load()
        if saved is None or not np.array_equal(saved.arrays.get("clean"), self._clean):
            return 0
        arrays: dict[str, np.ndarray] = saved.arrays
        if any(f"value.{name}" not in arrays for name in self._values):
            return 0  # of an earlier version
        if self._keep:
            if "found" not in arrays:
                return 0  # of an attempt that kept none
            names = [name for name in arrays if name.startswith("found.")]
            for name, distance in zip(names, arrays["found"].tolist(), strict=True):
                k, index = name.split(".")[1:]
                self.found[int(k), int(index)] = distance, arrays[name]
        for name in self._values:
            self._values[name] = arrays[f"value.{name}"].copy()
        for name, array in arrays.items():
            if name.startswith("sample."):
                self.samples[int(name.removeprefix("sample."))] = array
        return int(saved.state["slices"])

    def columns(self, entry: AttackEntry) -> dict[str, list[Any]]:
        """IMAGE_SCHEMA's columns that vary by row; eps-major."""
        n, count = len(self._batch), len(self._eps)
        values, ran = self._values, not self._skipped

        def flat(name: str) -> list[Any]:
            return list(values[name].ravel().tolist())

        return {
            "image": np.tile(self._batch.indices, count).tolist(),
            "eps": [eps for eps in self._eps for _ in range(n)],
            "label": np.tile(self._batch.labels, count).tolist(),
            "clean_prediction": np.tile(self._clean, count).tolist()
            if self._predicted
            else [None] * n * count,
            "adversarial_prediction": [p if p >= 0 else None for p in flat("prediction")],
            "distance": flat("distance"),
            "distance_loose": flat("loose") if entry.norm == "l0" else [None] * n * count,
            "distance_pixels": flat("pixels") if entry.norm == "l0" else [None] * n * count,
            "broken": flat("broken"),
            "verified": flat("verified"),
            "skipped": [self._skipped] * n * count,
            "queries": flat("queries"),
            "backward_passes": [b if b >= 0 else None for b in flat("backward")],
            "flat_passes": [f if f >= 0 else None for f in flat("flat")],
            "compute_batch": flat("compute_batch"),
            "zero_gradient": np.tile(self._zero, count).tolist() if ran else [None] * n * count,
            "broken_first_step": [bool(b) if b >= 0 else None for b in flat("first")],
            "broken_by": [by or None for by in flat("by")],
            "attacked_network": [network or None for network in flat("network")],
        }

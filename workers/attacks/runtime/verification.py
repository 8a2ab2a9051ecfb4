"""Verification of every image that an attack returns. Only what it confirms counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunegrid.workers.attacks.base import AttackLied, AttackResult, Batch, row_norms

#: Beyond float32 rounding of a sum of 150 000 squares, and of x0 + clip(x - x0).
BOX_TOLERANCE = 1e-6
NORM_TOLERANCE = 1e-4
#: Scores that differ by less than this part of the larger are a tie, decided by rounding.
TIE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Verification:
    broken: np.ndarray  #: bool [n]: a class other than the label, in the box, within eps
    prediction: np.ndarray  #: int64 [n], of the returned image
    distance: np.ndarray  #: float64 [n]: measured here; inf where not broken
    distance_loose: np.ndarray | None  #: L0 alone: elements with |delta| > 1e-4
    distance_pixels: np.ndarray | None  #: L0 alone: pixels with a changed element


def verify_adversarials(
    batch: Batch, result: AttackResult, logits: np.ndarray, *, norm: str, eps: float | None
) -> Verification:
    """`logits`: [n, classes] of the returned images, in the batch shape the attack worked in.

    Raises AttackLied where a claim is false.
    """
    n = len(batch)
    prediction = logits.argmax(axis=1)
    changed = (prediction != batch.labels) & np.isfinite(logits).all(axis=1)
    own = logits[np.arange(n), batch.labels]
    others = logits.copy()
    others[np.arange(n), batch.labels] = -np.inf
    best = others.max(axis=1)
    tied = np.abs(own - best) <= TIE * np.maximum(1.0, np.maximum(np.abs(own), np.abs(best)))

    flat = result.images.reshape(n, -1)
    inside = (flat.min(axis=1) >= -BOX_TOLERANCE) & (flat.max(axis=1) <= 1 + BOX_TOLERANCE)
    measured = row_norms(result.images - batch.images, norm)
    limit = np.inf if eps is None else eps * (1 + NORM_TOLERANCE) + BOX_TOLERANCE
    within = measured <= limit
    near = np.abs(measured - result.distance) <= NORM_TOLERANCE * np.maximum(1.0, measured)

    claims = result.claimed
    for what, wrong in (
        ("its class is still the label's", claims & ~changed & ~tied),
        ("it has pixels outside [0, 1]", claims & ~inside),
        ("its norm is not as claimed", claims & inside & ~near),
        ("it is further than eps", claims & ~within),
    ):
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise AttackLied(
                f"image {int(batch.indices[i])}: claimed an adversarial at {norm} "
                f"{result.distance[i]:.6g}"
                + ("" if eps is None else f" for eps {eps:.6g}")
                + f", but {what} (measured {measured[i]:.6g}, class {int(prediction[i])}, "
                f"label {int(batch.labels[i])}); {int(wrong.sum())} of {n} images like this"
            )
    broken = claims & changed & inside & within
    delta = result.images - batch.images
    others_of_l0 = (
        [row_norms(delta, f"l0_{by}") for by in ("loose", "pixels")] if norm == "l0" else []
    )
    loose, pixels = [np.where(broken, d, np.inf) for d in others_of_l0] or (None, None)
    return Verification(
        broken=broken,
        prediction=prediction,
        distance=np.where(broken, measured, np.inf),
        distance_loose=loose,
        distance_pixels=pixels,
    )

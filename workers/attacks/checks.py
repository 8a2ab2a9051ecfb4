"""What a robustness claim owes its readers: worst cases, masking flags, convergence. Pure NumPy.

Carlini et al. 2019, "On Evaluating Adversarial Robustness", sections 3 and 5; the flags of
AutoAttack (Croce, Hein 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Robust accuracies of n images must differ by more than this many of them to raise a flag.
SLACK_IMAGES = 1
#: Above this share of images with an all-zero gradient a gradient attack says little.
ZERO_GRADIENT_FRAC = 0.01


@dataclass(frozen=True, kw_only=True)
class AttackRows:
    """One attack's rows on one model, images in the same order for every attack."""

    attack: str
    gradients: bool  #: False: it needs the model's decisions alone
    norm: str
    outputs: str  #: "logits" or "softmax"
    images: np.ndarray  #: int [n], indices in the split
    eps: tuple[float, ...]  #: ascending; () for a minimum-norm attack
    broken: np.ndarray  #: bool [len(eps) or 1, n]
    distance: np.ndarray  #: float [len(eps) or 1, n]; 0 if misclassified, inf if not found
    zero_gradient: np.ndarray  #: bool [n]
    broken_first_step: np.ndarray | None = None  #: bool like `broken`; PGD alone

    def robust(self, eps: float) -> np.ndarray:
        """bool [n]: images that stand at `eps`. Raises KeyError where a fixed-eps attack was not
        run there."""
        if not self.eps:
            return np.asarray(self.distance[0] >= eps)
        for k, other in enumerate(self.eps):
            if other == eps:
                return ~self.broken[k]
        raise KeyError(f"{self.attack}: expected one of eps {list(self.eps)}, got {eps}")


def worst_case(attacks: Sequence[AttackRows], eps: float) -> np.ndarray:
    """bool [n]: images that stand at `eps` against every one of the attacks, which share a norm.

    Raises ValueError where norms or images differ.
    """
    first = attacks[0]
    for other in attacks[1:]:
        if other.norm != first.norm:
            raise ValueError(f"worst case: expected attacks in {first.norm}, got {other.norm}")
        if not np.array_equal(other.images, first.images):
            raise ValueError(f"worst case: {other.attack} and {first.attack} saw different images")
    standing: np.ndarray = np.stack([attack.robust(eps) for attack in attacks]).all(axis=0)
    return standing


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A sign that an attack says less than it seems to."""

    name: str
    attack: str
    value: float  #: of what the message speaks of
    message: str


def masking_flags(attacks: Sequence[AttackRows]) -> list[Flag]:
    """For the attacks on one model, in their order; empty where all is as it should be."""
    flags = []
    for rows in attacks:
        for flag in (_zero_gradients(rows), _softmax(rows), _first_step(rows), _monotone(rows)):
            if flag is not None:
                flags.append(flag)
    return flags + _gradient_free(attacks)


def _zero_gradients(rows: AttackRows) -> Flag | None:
    share = float(np.mean(rows.zero_gradient)) if len(rows.zero_gradient) else 0.0
    if not rows.gradients or share <= ZERO_GRADIENT_FRAC:
        return None
    return Flag(
        name="zero-gradients",
        attack=rows.attack,
        value=share,
        message=f"the loss gradient is all zero at {share:.1%} of the clean images",
    )


def _softmax(rows: AttackRows) -> Flag | None:
    if not rows.gradients or rows.outputs != "softmax":
        return None
    return Flag(
        name="softmax-outputs",
        attack=rows.attack,
        value=1.0,
        message="the attack differentiates through softmax outputs, which vanish where the "
        "network is confident",
    )


def _first_step(rows: AttackRows) -> Flag | None:
    """Images that the first step broke and all steps together did not."""
    if rows.broken_first_step is None:
        return None
    lost = rows.broken_first_step & ~rows.broken
    share = float(lost.mean())
    if lost.sum() <= SLACK_IMAGES * len(lost):
        return None
    return Flag(
        name="weaker-than-first-step",
        attack=rows.attack,
        value=share,
        message=f"its first step breaks {share:.1%} of the images that all its steps do not",
    )


def _monotone(rows: AttackRows) -> Flag | None:
    """Robust accuracy must not grow with eps."""
    if len(rows.eps) < 2:
        return None
    stand = (~rows.broken).sum(axis=1)
    rise = np.diff(stand)
    if rise.max() <= SLACK_IMAGES:
        return None
    k = int(np.argmax(rise))
    return Flag(
        name="not-monotone",
        attack=rows.attack,
        value=float(rise[k] / rows.broken.shape[1]),
        message=f"robust accuracy grows by {rise[k]} images from eps {rows.eps[k]:.4g} "
        f"to {rows.eps[k + 1]:.4g}",
    )


def rises_at(eps: np.ndarray, broken: np.ndarray, at: float) -> bool:
    """Whether more images stand at eps `at` than at one below it, by more than SLACK_IMAGES.

    eps [n], broken bool [n]: a fixed-eps attack's rows, each image once for every eps.
    """
    here = int((~broken[eps == at]).sum())
    below = [int((~broken[eps == value]).sum()) for value in np.unique(eps) if value < at]
    return bool(below) and here > min(below) + SLACK_IMAGES


def _gradient_free(attacks: Sequence[AttackRows]) -> list[Flag]:
    """An attack without gradients that breaks more than every white-box one in its norm."""
    flags = []
    for free in attacks:
        if free.gradients:
            continue
        white = [a for a in attacks if a.gradients and a.norm == free.norm]
        for rows in white:
            for eps in sorted(set(rows.eps or free.eps or _quartiles(rows))):
                if gap := more_broken(rows, free, eps):
                    common = len(np.intersect1d(rows.images, free.images))
                    flags.append(
                        Flag(
                            name="gradient-free-stronger",
                            attack=rows.attack,
                            value=gap / common,
                            message=f"{free.attack}, without gradients, breaks {gap} of "
                            f"{common} images more at {rows.norm} {eps:.4g}",
                        )
                    )
                    break
    return flags


def more_broken(rows: AttackRows, other: AttackRows, eps: float) -> int:
    """How many images that both saw `other` breaks beyond `rows` at `eps`; 0 up to SLACK_IMAGES,
    and where one of them was not run at this eps."""
    _, ours, theirs = np.intersect1d(rows.images, other.images, return_indices=True)
    try:
        gap = int(rows.robust(eps)[ours].sum() - other.robust(eps)[theirs].sum())
    except KeyError:
        return 0
    return gap if gap > SLACK_IMAGES else 0


def _quartiles(rows: AttackRows) -> tuple[float, ...]:
    finite = rows.distance[0][np.isfinite(rows.distance[0]) & (rows.distance[0] > 0)]
    return tuple(float(q) for q in np.quantile(finite, (0.25, 0.5, 0.75))) if len(finite) else ()


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """The same attack with twice the steps: what would change."""

    eps: float
    images: int
    robust: float  #: accuracy with the steps as they are
    robust_doubled: float
    median_distance: float
    median_distance_doubled: float
    converged: bool  #: twice the steps break no more than the tolerance of images anew


def doubling_steps(
    once: AttackRows, doubled: AttackRows, eps: Sequence[float], *, tolerance_frac: float = 0.01
) -> tuple[Convergence, ...]:
    """Raises ValueError where the two saw different images."""
    if not np.array_equal(once.images, doubled.images):
        raise ValueError(f"doubling steps: {once.attack}'s two runs saw different images")
    out = []
    for value in eps:
        a, b = once.robust(value), doubled.robust(value)
        out.append(
            Convergence(
                eps=value,
                images=len(a),
                robust=float(a.mean()),
                robust_doubled=float(b.mean()),
                median_distance=_median(once),
                median_distance_doubled=_median(doubled),
                converged=bool((a & ~b).mean() <= tolerance_frac),
            )
        )
    return tuple(out)


def _median(rows: AttackRows) -> float:
    return float(np.median(rows.distance.min(axis=0)))


def from_columns(
    columns: Mapping[str, Sequence[object]],
    *,
    attack: str,
    gradients: bool,
    norm: str,
    outputs: str,
) -> AttackRows:
    """One attack's image rows, of all shards, as arrays: sorted by image and eps.

    `columns`: image, eps, broken, distance, zero_gradient, broken_first_step.
    Raises ValueError where an image lacks an eps or has one twice.
    """
    image = np.asarray(columns["image"], np.int64)
    raw_eps = columns["eps"]
    eps = np.array([np.nan if e is None else float(e) for e in raw_eps])  # type: ignore[arg-type]
    kinds = tuple(float(e) for e in np.unique(eps[~np.isnan(eps)]))
    order = np.lexsort((image, np.nan_to_num(eps)))
    images, count = np.unique(image), max(1, len(kinds))
    if len(image) != len(images) * count or not np.array_equal(
        image[order], np.tile(images, count)
    ):
        raise ValueError(
            f"{attack}: expected each of {len(images)} images once for each of {count} eps, "
            f"got {len(image)} rows"
        )

    def shaped(name: str, kind: type) -> np.ndarray:
        return np.asarray(columns[name], kind)[order].reshape(count, len(images))

    first = columns["broken_first_step"]
    known = len(first) > 0 and all(value is not None for value in first)
    zero = np.array([bool(value) for value in columns["zero_gradient"]])[order]
    return AttackRows(
        attack=attack,
        gradients=gradients,
        norm=norm,
        outputs=outputs,
        images=images,
        eps=kinds,
        broken=shaped("broken", bool),
        distance=shaped("distance", float),
        zero_gradient=zero.reshape(count, len(images))[0],
        broken_first_step=shaped("broken_first_step", bool) if known else None,
    )

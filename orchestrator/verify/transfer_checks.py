"""Whether the rows of a transfer task agree with the task, with each other and with what the target
says once more; and whether kept adversarials are those of their attack's rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prunegrid.workers.adversarials import Adversarials
from prunegrid.workers.image_rows import ImageRows
from prunegrid.workers.transfer_image_rows import TransferRows, transfer_columns

#: The module that predicts again, in a process of its own.
PREDICTING = "prunegrid.workers.predict_again"
#: Adversarials of a transfer that are predicted again.
IMAGES = 16
#: The largest logits of a class and of the one in the row may differ by so much of their size:
#: another machine rounds otherwise.
TIE = 1e-3


def adversarial_findings(rows: ImageRows, found: Adversarials) -> Iterator[tuple[str, str]]:
    """(finding's name, message)."""
    table = rows.table
    image, eps, distance = (
        table.column(name).to_numpy(zero_copy_only=False).astype(float)
        for name in ("image", "eps", "distance")
    )
    broken = table.column("broken").to_numpy(zero_copy_only=False).astype(bool)
    attacked = broken & (distance > 0) & np.isfinite(distance)
    expected = _by_place(image[attacked], eps[attacked], distance[attacked])
    got = _by_place(found.image.astype(float), found.eps, found.distance)
    if expected.keys() != got.keys():
        odd = len(expected.keys() ^ got.keys())
        yield "adversarials-differ", f"{odd} adversarials are not those that the rows tell of"
    elif far := sum(expected[place] != got[place] for place in expected):
        yield "adversarials-differ", f"{far} adversarials are at other distances in the rows"
    pixels = found.adversarial
    if pixels.size and not (pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6):
        yield "out-of-range", "an adversarial has pixels outside [0, 1]"


def _by_place(
    image: np.ndarray, eps: np.ndarray, distance: np.ndarray
) -> dict[tuple[float, float], float]:
    levels = np.where(np.isnan(eps), -1.0, eps)
    places = zip(image.tolist(), levels.tolist(), strict=True)
    return dict(zip(places, distance.tolist(), strict=True))


def transfer_findings(rows: TransferRows) -> Iterator[tuple[str, str]]:
    """(finding's name, message)."""
    task, table = rows.task, rows.table
    columns = {n: table.column(n).to_numpy(zero_copy_only=False) for n in table.schema.names}
    for name, value in (transfer_columns(task) | {"seed": task.seed}).items():
        if set(columns[name]) - {value}:
            yield "key-mismatch", f"{name}: expected {value} in every row, as the file's task says"
    expected = Counter(dict.fromkeys(range(task.images), len(task.attack.eps) or 1))
    if Counter(columns["image"].tolist()) != expected:
        yield "images-missing", f"expected images 0..{task.images - 1}, once per eps"
    eps = columns["eps"].astype(float)
    if {*eps[~np.isnan(eps)]} != {*task.attack.eps}:
        yield "key-mismatch", f"eps: expected {task.attack.eps or 'none'}, as the task says"
    distance, found = columns["distance"].astype(float), columns["prediction"].astype(float)
    if np.any(distance <= 0) or np.any(np.isnan(distance)):
        yield "out-of-range", "an adversarial's distance is not above 0"
    if np.any(distance > eps * (1 + 1e-4) + 1e-6):  # not of no eps, and not of no adversarial
        over = np.isfinite(distance) & (distance > eps * (1 + 1e-4) + 1e-6)
        if over.any():
            yield "out-of-range", f"{int(over.sum())} adversarials are farther away than eps"
    skipped = columns["skipped"].astype(bool)
    if np.any((~np.isnan(found) != np.isfinite(distance))[~skipped]):
        yield "distance-mismatch", "a prediction of no adversarial, or none of one"
    right = columns["clean_prediction"] == columns["label"]
    moved = right & ~skipped & (found >= 0) & (found != columns["label"])
    if np.any(moved != columns["transferred"].astype(bool)):
        yield "not-adversarial", "an adversarial counts as transferred otherwise than by its class"


def spread(keys: Iterable[str], count: int) -> list[str]:
    """So many of them, evenly."""
    ordered = sorted(keys)
    return ordered[:: max(1, len(ordered) // count)][:count]


def shown_rows(rows: TransferRows) -> list[dict[str, Any]]:
    """Image, eps and prediction of a few adversarials that were shown."""
    known = rows.table.select(["image", "eps", "prediction"]).to_pylist()
    shown = [row for row in known if row["prediction"] is not None]
    return shown[:: max(1, len(shown) // IMAGES)][:IMAGES]


def differing_predictions(
    shown: Sequence[Mapping[str, Any]], logits: Sequence[Sequence[float]]
) -> Iterator[str]:
    """`logits`: [shown, classes], as the target gives them now."""
    for row, scores in zip(shown, np.array(logits, float), strict=True):
        finite = bool(np.isfinite(scores).all())
        now, then = int(scores.argmax()) if finite else -1, int(row["prediction"])
        close = then >= 0 and finite and then < len(scores)
        gap = scores[now] - scores[then] if close else np.inf
        if now != then and not gap <= TIE * max(1.0, abs(scores[now])):
            yield f"image {row['image']}: class {then} in the row, {now} now"

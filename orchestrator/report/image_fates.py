"""What becomes of single images and of single classes: who loses which. Pure.

Everything rests on image rows; an attack without them has no row here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from prunegrid.orchestrator.report.eps_levels import with_counterparts
from prunegrid.orchestrator.report.image_outcomes import (
    ImageOutcomes,
    margin_images,
    mean_standing,
)
from prunegrid.orchestrator.report.results import CELL, PLACE, SETTING, THREAT, groups, records
from prunegrid.orchestrator.report.statistics import accuracy_over_seeds, over_seeds
from prunegrid.orchestrator.report.tables import DENSE, paired_margins

_CLASS = [*PLACE, "protocol", "attack", "label"]
_MARGIN = {"mean": "margin", "n": "margin_n", "sd": "margin_sd", "half": "margin_half"}


def class_table(cells: pd.DataFrame, outcomes: ImageOutcomes) -> pd.DataFrame:
    """Per PLACE, protocol, attack ("": all of them) and class `label`: `images` of the class; n,
    mean, sd, half, low, high over seeds of their robust accuracy, the mean over ε levels; the
    `margin` to the dense model, paired by seed, with `_n`, `_sd` and `_half`.

    `cells`: rows of single seeds. A model that lacks image rows of an attack, or their classes, has
    no row of it.
    """
    rows: list[tuple[Any, ...]] = []
    lean = with_counterparts(cells)[[*CELL, "seed", "broken_at", "task_keys"]]
    for place, mine in groups(lean, [*PLACE, "protocol", "seed"]):
        listed = list(records(mine))
        known = [cell for cell in listed if outcomes.of(cell) is not None]
        attacks = sorted({cell.attack for cell in known})
        for attack in ["", *attacks]:
            wanted = [c for c in listed if attack in ("", c.attack) and c.attack in attacks]
            mean = mean_standing(outcomes.of(cell) for cell in wanted)
            if mean is None:
                continue
            labels = outcomes.labels(wanted[0])
            known_labels = labels >= 0
            labels, robust = labels[known_labels], mean.robust[known_labels]
            counts, sums = np.bincount(labels), np.bincount(labels, weights=robust)
            for label in np.flatnonzero(counts):
                accuracy = float(sums[label] / counts[label])
                rows.append((*place, attack, int(label), int(counts[label]), accuracy))
    columns = [*PLACE, "protocol", "seed", "attack", "label", "images", "accuracy"]
    frame = pd.DataFrame(rows, columns=columns)
    out = accuracy_over_seeds(frame, _CLASS, "accuracy")
    sizes = frame.groupby(_CLASS)["images"].min().reset_index()
    margins = over_seeds(paired_margins(frame, _CLASS, "accuracy"), _CLASS, "margin")
    out = out.merge(sizes, on=_CLASS, how="left")
    return out.merge(margins.rename(columns=_MARGIN), on=_CLASS, how="left")


def flip_table(cells: pd.DataFrame, outcomes: ImageOutcomes) -> pd.DataFrame:
    """Per CELL at a rate above 1: over how many `seeds`; the mean shares of images `lost` (they
    stand on the dense model of the same seed, not on the pruned one) and `gained`; and the shares
    `lost_always` and `gained_always`, with every seed."""
    rows = []
    for place, d in margin_images(cells, outcomes):
        if d is not None:
            shares = [x for side in (d < 0, d > 0) for x in (side.mean(), side.all(axis=0).mean())]
            rows.append((*place, len(d), *map(float, shares)))
    columns = [*CELL, "seeds", "lost", "lost_always", "gained", "gained_always"]
    return pd.DataFrame(rows, columns=columns)


_IMAGE = [*SETTING, "protocol", *THREAT]
_COUNTS = ("dense", "dense_standing", "pruned", "pruned_standing")


def image_table(cells: pd.DataFrame, outcomes: ImageOutcomes) -> pd.DataFrame:
    """Per setting, protocol, threat and image: its `label`; of how many dense and pruned models
    (each seed counts, a dense model that methods share once) image rows tell, `dense` and `pruned`;
    and on how many of them the image stands, `dense_standing` and `pruned_standing`."""
    parts = []
    columns = [*_IMAGE, "rate", "broken_at", "task_keys"]
    attacked = cells[columns].assign(tasks=cells["task_keys"].map(tuple))
    for place, mine in groups(attacked.drop_duplicates([*_IMAGE, "tasks"]), _IMAGE):
        known = [(c, s) for c in records(mine) if (s := outcomes.of(c)) is not None]
        if not known:
            continue
        images, at = np.unique(np.concatenate([s.images for _, s in known]), return_inverse=True)
        labels = np.empty(len(images), int)
        labels[at] = np.concatenate([outcomes.labels(c) for c, _ in known])
        stands = np.concatenate([s.robust for _, s in known])
        dense = np.concatenate([np.full(len(s.images), c.rate == DENSE) for c, s in known])
        counts = [
            np.bincount(at, weights=side * values, minlength=len(images)).astype(int)
            for side in (dense, ~dense)
            for values in (np.ones(len(at)), stands)
        ]
        found = dict(zip(_COUNTS, counts, strict=True)) | {"image": images, "label": labels}
        parts.append(pd.DataFrame(found).assign(**dict(zip(_IMAGE, place, strict=True))))
    columns = [*_IMAGE, "image", "label", *_COUNTS]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def unbroken_table(cells: pd.DataFrame, outcomes: ImageOutcomes) -> pd.DataFrame:
    """Per setting, protocol and minimum-norm attack: how many `images` of all models image rows
    tell of, and how many of these are `unbroken` at any distance."""
    found = []
    columns = [*SETTING, "protocol", "attack", "broken_at", "task_keys"]
    minimum = cells.loc[cells["finds"] == "minimum-norm", columns]
    minimum = minimum.assign(tasks=minimum["task_keys"].map(tuple)).drop_duplicates(
        [*columns[:-2], "tasks"]
    )
    by = [*SETTING, "protocol", "attack"]
    for cell in records(minimum.assign(norm="")):
        rows = outcomes.rows(cell)
        if rows is not None:
            lost = int(np.isinf(rows.distance[0]).sum())
            found.append((*(getattr(cell, name) for name in by), len(rows.images), lost))
    frame = pd.DataFrame(found, columns=[*by, "images", "unbroken"])
    return frame.groupby(by, as_index=False).sum()


def lost_by_all(images: pd.DataFrame) -> pd.DataFrame:
    """Those of `image_table` that no model holds, dense or pruned."""
    standing = images["dense_standing"] + images["pruned_standing"]
    found: pd.DataFrame = images[standing == 0]
    return found

"""Accuracies over seeds: clean (the paper's Table 1), and every cell with its margin to the dense
model (Table 2). Pure pandas; accuracies are fractions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from prunegrid.orchestrator.report.moderated import false_discovery, moderated_t
from prunegrid.orchestrator.report.results import CELL, PLACE, SETTING, Results, groups
from prunegrid.orchestrator.report.statistics import accuracy_over_seeds, holm, over_seeds, paired_p

#: The dense model's nominal rate.
DENSE = 1.0

#: The method of all dense models together.
UNPRUNED = "unpruned"

#: A nominal rate is called wrong where the effective one differs by more than this share.
COMPRESSION_TOLERANCE = 0.1


def model_name(method: str, rate: float, effective: float) -> str:
    """`magnitude-global-filter at rate 8 (effective 14.4)`."""
    if method == UNPRUNED:
        return "no pruning"
    far = abs(effective / rate - 1) > COMPRESSION_TOLERANCE
    return f"{method} at rate {rate:g}" + (f" (effective {effective:.3g})" if far else "")


def pruned_nothing(rows: pd.DataFrame) -> pd.Series[bool]:
    """Of rows with `rate` and `effective_rate`: dense networks that were only trained again, by the
    control or by a method that found nothing to prune."""
    return (rows["rate"] != DENSE) & (rows["effective_rate"] <= 1)


def clean_table(results: Results) -> pd.DataFrame:
    """Per PLACE: n, mean, sd, half, low, high of clean accuracy; `diverged`, seeds that have none;
    the margin to the dense model, paired by seed; effective rate and theoretical speed-up as mean
    over seeds (with the range of the effective rate)."""
    models = results.models
    out = accuracy_over_seeds(models, PLACE, "accuracy")
    compression = models.replace({"effective_rate": {np.inf: np.nan}, "speedup": {np.inf: np.nan}})
    parts = compression.groupby(PLACE, sort=True)
    lost = results.diverged.groupby(PLACE).size().rename("diverged").reset_index()
    out = out.merge(lost, on=PLACE, how="left").fillna({"diverged": 0}).astype({"diverged": int})
    out["effective_rate"] = parts["effective_rate"].mean().to_numpy()
    out["effective_low"] = parts["effective_rate"].min().to_numpy()
    out["effective_high"] = parts["effective_rate"].max().to_numpy()
    out["speedup"] = parts["speedup"].mean().to_numpy()
    return out.merge(_margins(models, PLACE, "accuracy"), on=PLACE, how="left")


def attacked_clean_table(results: Results) -> pd.DataFrame:
    """Per PLACE and protocol: n, mean, sd, half, low, high of clean accuracy on the attacked
    images, and the margin to the dense model. Without models that were not attacked."""
    cells, by = results.cells, [*PLACE, "protocol"]
    ran = cells[(cells["n_skipped"].fillna(0) == 0) & cells["clean_accuracy"].notna()]
    seeds = ran.groupby([*by, "seed"])["clean_accuracy"].mean().reset_index()
    out = accuracy_over_seeds(seeds, by, "clean_accuracy")
    return out.merge(_margins(seeds, by, "clean_accuracy"), on=by, how="left")


def cell_table(results: Results) -> pd.DataFrame:
    """Per CELL: n, mean, sd, half, low, high of robust accuracy, the least n_images, the mean
    `clean_accuracy` on these images, the masking flags (with how many seeds show each) and the
    margin to the dense model under the same threat.

    Margin columns: `margin` (mean of paired differences), `margin_n`, `margin_half`, `p` (paired
    t) and `p_holm`, corrected over all comparisons of one setting and protocol; of the same family,
    `p_moderated` (moderated t), `p_moderated_holm` and `p_moderated_fdr` (Benjamini-Hochberg).
    """
    cells = results.cells
    out = accuracy_over_seeds(cells, CELL, "robust_accuracy")
    parts = cells.groupby(CELL, sort=True)
    out["n_images"] = parts["n_images"].min().to_numpy()
    out["clean_accuracy"] = parts["clean_accuracy"].mean().to_numpy()
    out["n_skipped"] = parts["n_skipped"].sum().to_numpy()
    out = out.merge(_flags(cells), on=CELL, how="left").fillna({"flags": ""})
    out = out.merge(_margins(cells, CELL, "robust_accuracy"), on=CELL, how="left")
    families = out.groupby([*SETTING, "protocol"], sort=False)["p"]
    out["p_holm"] = families.transform(lambda p: holm(p.to_numpy(float)))
    tested = [_moderated(family) for _, family in groups(out, [*SETTING, "protocol"])]
    return pd.concat([out, *([pd.concat(tested)] if tested else [])], axis=1)


def _moderated(family: pd.DataFrame) -> pd.DataFrame:
    found = moderated_t(*(family[c].to_numpy(float) for c in ("margin_n", "margin", "margin_sd")))
    return pd.DataFrame(
        {
            "p_moderated": found.p,
            "p_moderated_holm": holm(found.p),
            "p_moderated_fdr": false_discovery(found.p),
        },
        index=family.index,
    )


def paired_margins(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """`by`, seed and `margin` of every row at a rate above 1: its difference to the dense model
    of the same seed. `by` has "rate"; rows without such a dense model are left out."""
    same = [name for name in by if name != "rate"] + ["seed"]
    dense = frame.loc[frame["rate"] == DENSE, [*same, value]].drop_duplicates(same)
    pruned = frame.loc[frame["rate"] != DENSE, [*by, "seed", value]]
    both = pruned.merge(dense, on=same, suffixes=("", "_dense"))
    return both.assign(margin=both[value] - both[f"{value}_dense"])


def _margins(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Per group at a rate above 1: the mean margin, its n, sd and half, and p of a paired test."""
    out = over_seeds(paired_margins(frame, by, value), by, "margin")
    out["p"] = paired_p(*(out[c].to_numpy(float) for c in ("n", "mean", "sd")))
    names = {"n": "margin_n", "mean": "margin", "sd": "margin_sd", "half": "margin_half"}
    return out.rename(columns=names)


def seed_averages(cells: pd.DataFrame) -> pd.DataFrame:
    """Per method, rate and seed: `score`, the mean robust accuracy over every attack and eps of
    `cells`. A seed that lacks one of these does not count."""
    wanted = len(cells[["attack", "eps"]].drop_duplicates())
    parts = cells.groupby(["method", "rate", "seed"])["robust_accuracy"].agg(["mean", "count"])
    return parts.loc[parts["count"] == wanted, "mean"].rename("score").reset_index()


def _flags(cells: pd.DataFrame) -> pd.DataFrame:
    """Per CELL with a masking flag: `zero-gradients (2), unverified (1)`, seeds in brackets."""
    raised = cells[[*CELL, "flags"]].explode("flags").dropna(subset="flags")
    if raised.empty:
        return pd.DataFrame({name: pd.Series(dtype=cells[name].dtype) for name in CELL}).assign(
            flags=pd.Series(dtype=str)
        )
    counts = raised.groupby([*CELL, "flags"], sort=True).size().reset_index(name="seeds")
    counts["text"] = counts["flags"] + " (" + counts["seeds"].astype(str) + ")"
    return counts.groupby(CELL, sort=True)["text"].agg(", ".join).reset_index(name="flags")

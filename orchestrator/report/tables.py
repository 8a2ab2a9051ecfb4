"""The report's tables: clean accuracy (the paper's Table 1), every cell with its margin to the
dense model (Table 2), the worst case over attacks. Pure pandas; accuracies are fractions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prunegrid.orchestrator.report.ladder import add_strength
from prunegrid.orchestrator.report.results import (
    CELL,
    PLACE,
    SETTING,
    THREAT,
    Results,
    attack_title,
    eps_text,
    threats,
)
from prunegrid.orchestrator.report.statistics import Estimate, holm, over_seeds, paired_p

#: The dense model's nominal rate.
DENSE = 1.0


def clean_table(results: Results) -> pd.DataFrame:
    """Per PLACE: n, mean, sd, half, low, high of clean accuracy; the margin to the dense model,
    paired by seed; effective rate and theoretical speed-up as mean over seeds (with the range of
    the effective rate)."""
    models = results.models
    out = over_seeds(models, PLACE, "accuracy")
    compression = models.replace({"effective_rate": {np.inf: np.nan}, "speedup": {np.inf: np.nan}})
    parts = compression.groupby(PLACE, sort=True)
    out["effective_rate"] = parts["effective_rate"].mean().to_numpy()
    out["effective_low"] = parts["effective_rate"].min().to_numpy()
    out["effective_high"] = parts["effective_rate"].max().to_numpy()
    out["speedup"] = parts["speedup"].mean().to_numpy()
    return out.merge(_margins(models, PLACE, "accuracy"), on=PLACE, how="left")


def cell_table(results: Results) -> pd.DataFrame:
    """Per CELL: n, mean, sd, half, low, high of robust accuracy, the least n_images, the masking
    flags (with how many seeds show each) and the margin to the dense model under the same threat.

    Margin columns: `margin` (mean of paired differences), `margin_n`, `margin_half`, `p` (paired
    t) and `p_holm`, corrected over all comparisons of one setting and protocol.
    """
    cells = results.cells
    out = over_seeds(cells, CELL, "robust_accuracy")
    parts = cells.groupby(CELL, sort=True)
    out["n_images"] = parts["n_images"].min().to_numpy()
    out["n_skipped"] = parts["n_skipped"].sum().to_numpy()
    out = out.merge(_flags(cells), on=CELL, how="left").fillna({"flags": ""})
    out = out.merge(_margins(cells, CELL, "robust_accuracy"), on=CELL, how="left")
    families = out.groupby([*SETTING, "protocol"], sort=False)["p"]
    out["p_holm"] = families.transform(lambda p: holm(p.to_numpy(float)))
    return out


def _margins(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Per group at a rate above 1: differences to the dense model of the same seed."""
    same = [name for name in by if name != "rate"] + ["seed"]
    dense = frame.loc[frame["rate"] == DENSE, [*same, value]].drop_duplicates(same)
    pruned = frame.loc[frame["rate"] != DENSE, [*by, "seed", value]]
    both = pruned.merge(dense, on=same, suffixes=("", "_dense"))
    both["difference"] = both[value] - both[f"{value}_dense"]
    out = over_seeds(both, by, "difference")
    out["p"] = paired_p(*(out[c].to_numpy(float) for c in ("n", "mean", "sd")))
    names = {"n": "margin_n", "mean": "margin", "sd": "margin_sd", "half": "margin_half"}
    return out.rename(columns=names).drop(columns=["low", "high"])


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


def worst_table(results: Results) -> pd.DataFrame:
    """Per PLACE, protocol and strength: robust accuracy against the best of all attacks.

    `strength` is the rung of an eps (`ladder.py`). A seed's worst case is the least of its
    accuracies; it counts only where every attack has a result. (An adversary who may choose
    the attack for each image does at least as well.)
    """
    ranked = add_strength(results.cells)
    ranked = ranked[ranked["strength"] > 0]
    by = [*PLACE, "protocol", "seed", "strength"]
    attacks = ranked.groupby([*SETTING, "protocol", "strength"])["attack"].transform("nunique")
    parts = ranked.assign(attacks=attacks).groupby(by, sort=True)
    worst = parts.agg(
        accuracy=("robust_accuracy", "min"), run=("attack", "nunique"), wanted=("attacks", "max")
    ).reset_index()
    worst.loc[worst["run"] < worst["wanted"], "accuracy"] = np.nan
    return over_seeds(worst, [*PLACE, "protocol", "strength"], "accuracy")


# --------------------------------------------------------------------------- the terminal's


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """A column of robust accuracies."""

    protocol: str
    attack: str
    norm: str
    eps: float

    @property
    def title(self) -> str:
        return f"{self.attack} {eps_text(self.norm, self.eps)}"

    @property
    def heading(self) -> str:
        return f"{attack_title(self.attack)}, {eps_text(self.norm, self.eps)}"


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    architecture: str
    dataset: str
    variant: str
    method: str
    rate: float
    effective_rate: float  #: mean over seeds
    clean: Estimate  #: on the whole test split
    robust: dict[Attacked, Estimate]


def attacked_columns(cells: pd.DataFrame) -> list[Attacked]:
    """Every (protocol, attack, eps), in order."""
    out = []
    for protocol in sorted(cells["protocol"].unique()):
        out += [
            Attacked(protocol=protocol, attack=t.attack, norm=t.norm, eps=t.eps)
            for t in threats(cells[cells["protocol"] == protocol])
        ]
    return out


def summary_rows(results: Results) -> list[SummaryRow]:
    """One row per model of the grid; accuracies as estimates over seeds."""
    columns = attacked_columns(results.cells)
    none = Estimate(n=0, mean=np.nan, sd=np.nan, half=np.nan)
    cells = over_seeds(results.cells, CELL, "robust_accuracy")
    found: dict[tuple[object, ...], dict[Attacked, Estimate]] = {}
    names = [*PLACE, "protocol", *THREAT, "n", "mean", "sd", "half"]
    for *place, protocol, attack, norm, eps, n, mean, sd, half in cells[names].itertuples(
        index=False, name=None
    ):
        column = Attacked(protocol=protocol, attack=attack, norm=norm, eps=float(eps))
        row = found.setdefault(tuple(place), {})
        row[column] = Estimate(n=n, mean=mean, sd=sd, half=half)
    clean = clean_table(results)[[*PLACE, "effective_rate", "n", "mean", "sd", "half"]]
    out = []
    for *place, effective, n, mean, sd, half in clean.itertuples(index=False, name=None):
        architecture, dataset, variant, method, rate = place
        robust = found.get(tuple(place), {})
        out.append(
            SummaryRow(
                architecture=architecture,
                dataset=dataset,
                variant=variant,
                method=method,
                rate=rate,
                effective_rate=effective,
                clean=Estimate(n=n, mean=mean, sd=sd, half=half),
                robust={c: robust.get(c, none) for c in columns},
            )
        )
    return out

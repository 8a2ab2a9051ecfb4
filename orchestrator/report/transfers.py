"""What adversarials of dense models do to the models pruned from them, and back. Pure pandas.

A *transfer rate* is the share of images that the target classifies right and the source has an
adversarial of, at which that adversarial fools the target.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import SETTING, THREAT, Results
from prunegrid.orchestrator.report.statistics import (
    SIGNIFICANT,
    TINY,
    accuracy_over_seeds,
    holm,
    over_seeds,
    paired_p,
)
from prunegrid.orchestrator.report.tables import DENSE

FROM_DENSE, TO_DENSE = "from dense", "to dense"
#: A pruned model, whichever way its adversarials or the dense one's went.
PAIR = [*SETTING, "method", "pruned_rate", "protocol"]
_COUNTS = ["n_adversarials", "n_transferred", "n_right", "n_right_there", "n_white_box"]


def transfer_rows(results: Results) -> pd.DataFrame:
    """The store's transfer rows, each with its `direction`, the rate of the pruned one of the two
    models, and `n_right`, how many images the target classifies right. Beside it what the attack
    itself does to the target: `white_box`, its robust accuracy, and of its right images
    (`n_right_there`) those that the attack breaks (`n_white_box`); NaN where that cell has no
    row."""
    rows, seed = results.transfers, "seed"
    from_dense = rows["source_rate"] == DENSE
    place = [*SETTING, "method", "rate", "protocol", *THREAT, seed]
    cells = results.cells[[*place, "clean_accuracy", "robust_accuracy", "n_images"]]
    own = cells.rename(
        columns={"robust_accuracy": "white_box", "clean_accuracy": "own", "n_images": "own_images"}
    ).drop_duplicates(place)
    out = rows.assign(
        direction=np.where(from_dense, FROM_DENSE, TO_DENSE),
        pruned_rate=rows["rate"].where(from_dense, rows["source_rate"]),
    ).merge(own, on=place, how="left")
    right = (out["own"] * out["own_images"]).round()
    stand = (out["white_box"] * out["own_images"]).round()
    return out.assign(
        n_right=(out["clean_accuracy"] * out["n_images"]).round(),
        n_right_there=right,
        n_white_box=right - stand,
    )


def transfer_table(results: Results) -> pd.DataFrame:
    """Per PAIR, THREAT and direction: n, mean, sd, half, low, high over seeds of the transfer rate;
    `adversarials`, how many were shown, all seeds together; `robust`, the target's robust accuracy
    against them, `white_box`, that against the attack on the target itself, and `gap`, the first
    less the second, paired by seed, with `gap_n` and `gap_half`."""
    rows = transfer_rows(results)
    by = [*PAIR, *THREAT, "direction"]
    out = accuracy_over_seeds(rows, by, "transfer_rate")
    rows = rows.assign(gap=rows["robust_accuracy"] - rows["white_box"])
    parts = rows.groupby(by, sort=True)
    gap = over_seeds(rows, by, "gap")
    return out.assign(
        adversarials=parts["n_adversarials"].sum().to_numpy(),
        robust=parts["robust_accuracy"].mean().to_numpy(),
        white_box=parts["white_box"].mean().to_numpy(),
        gap=gap["mean"],
        gap_n=gap["n"],
        gap_half=gap["half"],
    )


def pooled_transfers(results: Results) -> pd.DataFrame:
    """Per PAIR and `attack` ("": all): the transfer rate over all eps, pooled within a seed, in
    both directions: n, mean, sd, half, low, high over seeds, prefixed `to_pruned_` and
    `to_dense_`. Of all images that the target classifies right, `_broken` is the share that
    transferred adversarials break, `_white_box` the one that the attack itself breaks.

    Also `difference`, to the pruned model less to the dense one, paired by seed, with its n, sd and
    half, p of a paired t test and `p_holm`, corrected over the pruned models of a setting and
    protocol, all attacks together, and over those and their attacks."""
    rows = transfer_rows(results)
    if rows.empty:
        return pd.DataFrame(columns=[*PAIR, "attack"])
    both = pd.concat([rows, rows.assign(attack="")])
    by = [*PAIR, "attack"]
    # a seed that lacks a cell has no white-box figure of the same threats
    parts = both.groupby([*by, "direction", "seed"], sort=True)[_COUNTS]
    sums = parts.sum().where(parts.count().eq(parts.size(), axis=0))
    shown = sums["n_adversarials"].where(sums["n_adversarials"] > 0)
    right, there = (sums[n].where(sums[n] > 0) for n in ("n_right", "n_right_there"))
    rates = pd.DataFrame(
        {
            "rate": sums["n_transferred"] / shown,
            "broken": sums["n_transferred"] / right,
            "white_box": sums["n_white_box"] / there,
        }
    ).reset_index()
    out = rates[by].drop_duplicates().sort_values(by).reset_index(drop=True)
    for direction, name in ((FROM_DENSE, "to_pruned"), (TO_DENSE, "to_dense")):
        mine = rates[rates["direction"] == direction]
        found = accuracy_over_seeds(mine, by, "rate")
        for share in ("broken", "white_box"):
            found[share] = mine.groupby(by, sort=True)[share].mean().to_numpy()
        names = {c: f"{name}_{c}" for c in found.columns if c not in by}
        out = out.merge(found.rename(columns=names), on=by, how="left")
    wide = rates.pivot_table(index=[*by, "seed"], columns="direction", values="rate")
    wide = wide.reindex(columns=[FROM_DENSE, TO_DENSE]).reset_index()
    paired = over_seeds(wide.assign(d=wide[FROM_DENSE] - wide[TO_DENSE]), by, "d")
    paired["p"] = paired_p(*(paired[c].to_numpy(float) for c in ("n", "mean", "sd")))
    names = {c: f"difference_{c}" for c in ("n", "sd", "half")} | {"mean": "difference"}
    out = out.merge(paired.rename(columns=names), on=by, how="left")
    families = out.groupby([*SETTING, "protocol", out["attack"] == ""], sort=False)["p"]
    return out.assign(p_holm=families.transform(lambda p: holm(p.to_numpy(float))))


def transfer_sentences(part: Part) -> list[str]:
    """What the transfers of one experiment and protocol say, in a few sentences: means over its
    pruned models."""
    results = part.analysis.results
    pooled = part.rows(pooled_transfers(results))
    mine = pooled[pooled["attack"] == ""]
    if mine.empty:
        return []
    out = []
    for name, source, target in (
        ("to_pruned", "dense", "pruned"),
        ("to_dense", "pruned", "dense"),
    ):
        columns = (f"{name}_{column}" for column in ("mean", "broken", "white_box"))
        rate, broken, own = (mine[column].mean() for column in columns)
        if np.isnan(rate):
            out.append(f"No {source} model has adversarials of images that a {target} one knows.")
            continue
        beside = "" if np.isnan(own) else f", where the attacks on these break {100 * own:.1f} %"
        out.append(
            f"{100 * rate:.1f} % of the {source} models' adversarials fool the {target} ones; they "
            f"break {100 * broken:.1f} % of the images that these classify right{beside}."
        )
    tested = mine.dropna(subset="p_holm")
    sure = tested[tested["p_holm"] < SIGNIFICANT]
    if tested.empty:
        out.append("Too few seeds to test the two directions against each other.")
    else:
        more = int((sure["difference"] > 0).sum())
        out.append(
            f"The two directions differ at {len(sure)} of {counted(len(tested), 'pruned model')} "
            "(paired t test over seeds, Holm)"
            + (f": at {more} more goes to the pruned model." if len(sure) else ".")
        )
    table = part.rows(transfer_table(results))
    stronger = table[table["gap"] < -TINY]
    if len(stronger):
        out.append(
            f"At {len(stronger)} of {len(table)} the adversarials of another model break more "
            "images than the attack on the model itself: a sign of masked gradients or of an "
            "attack that is too weak."
        )
    return out


def has_transfers(analysis: Analysis) -> bool:
    return not analysis.results.transfers.empty

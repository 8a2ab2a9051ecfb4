"""The report's numbers once more, from the image rows alone, by plain NumPy and SciPy: nothing of
`orchestrator/report` but the CSV files that it wrote."""

from __future__ import annotations

import io
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import optimize, stats

from prunegrid.orchestrator.commands.report import report
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from tests.fakes import RUNNER
from tests.grids import with_seeds

METHODS = ("magnitude-global-unstructured", "random-local-filter")
RATES = (1.0, 2.0, 4.0)
SEEDS = (0, 1, 2, 3)
EPS = {"pgd_linf": (4 / 255, 8 / 255), "cw_l2": (1.0, 2.0)}
THREATS = [(attack, eps) for attack, levels in EPS.items() for eps in levels]


class Store:
    """Accuracies straight from the files."""

    def __init__(self, folder: Path) -> None:
        self.clean: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
        models = {}
        for path in (folder / "results/models").glob("*.parquet"):
            (row,) = pq.read_table(path).to_pylist()
            place = row["method"], row["rate"]
            models.setdefault(row["task_key"], []).append((*place, row["seed"]))
            self.clean[place][row["seed"]] = row["accuracy"]
        images = [
            pq.read_table(path).to_pandas()
            for path in (folder / "results/images").glob("*.parquet")
        ]
        self.robust: dict[tuple[str, float, str, float], dict[int, float]] = defaultdict(dict)
        for (key, attack), rows in pd.concat(images).groupby(["model_key", "attack"]):
            for eps in EPS[attack]:
                if attack == "cw_l2":
                    stands = rows["distance"] > eps
                else:
                    stands = ~rows.loc[np.isclose(rows["eps"], eps), "broken"]
                assert len(stands) == 24
                for method, rate, seed in models[key]:
                    self.robust[method, rate, attack, eps][seed] = float(stands.mean())

    def of(self, method: str, rate: float, attack: str, eps: float) -> np.ndarray:
        found = self.robust[method, rate, attack, eps]
        return np.array([found[seed] for seed in SEEDS])

    def clean_of(self, method: str, rate: float) -> np.ndarray:
        return np.array([self.clean[method, rate][seed] for seed in SEEDS])

    def average(self, method: str, rate: float, attacks: tuple[str, ...]) -> np.ndarray:
        return np.mean([self.of(method, rate, a, e) for a in attacks for e in EPS[a]], axis=0)

    def worst(self, method: str, rate: float) -> np.ndarray:
        levels = [
            np.min([self.of(method, rate, attack, eps[k]) for attack, eps in EPS.items()], axis=0)
            for k in range(2)
        ]
        return np.mean(levels, axis=0)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Store, Path]:
    """A store of four seeds and the CSV files of its report."""
    folder = tmp_path_factory.mktemp("recomputed")
    (folder / "grid.yaml").write_text(with_seeds(*SEEDS))
    store = folder / "s"
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(store), engine="inline", runner=RUNNER
    )
    assert run_grid(options, Console(quiet=True)) == 0
    report(str(store), folder / "report", against=None, console=Console(file=io.StringIO()))
    return Store(store), folder / "report" / "csv"


def rows_of(csv: Path, stem: str) -> pd.DataFrame:
    return pd.read_csv(csv / f"{stem}.csv", keep_default_na=True).fillna({"attack": ""})


def cell(cells: pd.DataFrame, method: str, rate: float, attack: str, eps: float) -> pd.Series:
    mine = (cells.method == method) & (cells.rate == rate) & (cells.attack == attack)
    (at,) = np.flatnonzero(mine & np.isclose(cells.eps, eps))
    return cells.iloc[at]


def student(values: np.ndarray) -> float:
    """Half width of the 95 % interval of a mean; NaN without spread."""
    if np.ptp(values) < 1e-9:
        return np.nan
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    return (high - low) / 2


def wilson(values: np.ndarray) -> tuple[float, float]:
    """Where the distance to the mean is the half width, scaled as a binomial SD is."""
    mean, half = values.mean(), student(values)
    if np.isnan(half):
        return np.nan, np.nan

    def beyond(p: float) -> float:
        return abs(p - mean) - half * np.sqrt(p * (1 - p) / (mean * (1 - mean)))

    return optimize.brentq(beyond, 0, mean), optimize.brentq(beyond, mean, 1)


def holm(p: list[float]) -> list[float]:
    order = sorted((i for i in range(len(p)) if not np.isnan(p[i])), key=lambda i: p[i])
    out, so_far = [np.nan] * len(p), 0.0
    for k, i in enumerate(order):
        so_far = max(so_far, (len(order) - k) * p[i])
        out[i] = min(1.0, so_far)
    return out


def paired(a: np.ndarray, b: np.ndarray) -> float:
    """p of a paired t test; 1 where no pair differs, NaN where all differ by the same."""
    if np.ptp(a - b) < 1e-9:
        return 1.0 if abs((a - b)[0]) < 1e-9 else np.nan
    return float(stats.ttest_rel(a, b).pvalue)


def test_cells_their_means_and_intervals(both):
    store, csv = both
    cells = rows_of(csv, "cells")
    assert len(cells) == len(METHODS) * len(RATES) * len(THREATS)
    for method, rate, (attack, eps) in product(METHODS, RATES, THREATS):
        values, row = store.of(method, rate, attack, eps), cell(cells, method, rate, attack, eps)
        assert (row.n, row.n_images) == (len(SEEDS), 24)
        assert row["mean"] == pytest.approx(values.mean())
        assert row.sd == pytest.approx(values.std(ddof=1))
        assert row.half == pytest.approx(student(values), nan_ok=True)
        assert (row.low, row.high) == pytest.approx(wilson(values), abs=1e-9, nan_ok=True)


def test_clean_accuracies_and_their_margins(both):
    store, csv = both
    clean = rows_of(csv, "clean").set_index(["method", "rate"])
    for method, rate in product(METHODS, RATES):
        row, values = clean.loc[(method, rate)], store.clean_of(method, rate)
        assert row["mean"] == pytest.approx(values.mean())
        assert (row.low, row.high) == pytest.approx(wilson(values), abs=1e-9, nan_ok=True)
        if rate > 1:
            margin = values - store.clean_of(method, 1.0)
            assert row.margin == pytest.approx(margin.mean())
            assert row.margin_half == pytest.approx(student(margin))
            assert row.p == pytest.approx(paired(values, store.clean_of(method, 1.0)))


def test_margins_paired_tests_and_holm(both):
    store, csv = both
    cells = rows_of(csv, "cells")
    places = [(m, r, *t) for m, r, t in product(METHODS, RATES[1:], THREATS)]
    p = [paired(store.of(*place), store.of(place[0], 1.0, *place[2:])) for place in places]
    assert len({round(x, 6) for x in p}) > 5, "nothing is tested"
    for place, alone, corrected in zip(places, p, holm(p), strict=True):
        row = cell(cells, *place)
        margin = store.of(*place) - store.of(place[0], 1.0, *place[2:])
        assert row.margin == pytest.approx(margin.mean(), abs=1e-12)
        assert row.margin_half == pytest.approx(student(margin), nan_ok=True)
        assert row.p == pytest.approx(alone, nan_ok=True)
        assert row.p_holm == pytest.approx(corrected, nan_ok=True)


def test_non_inferiority(both):
    """One-sided tests that clean accuracy and robustness lose less than two points each."""
    store, csv = both
    found = rows_of(csv, "how_far").set_index(["attack", "criterion", "method", "rate"])
    scores = {
        ("", "average robust accuracy"): lambda m, r: store.average(m, r, tuple(EPS)),
        ("", "robust accuracy under the worst attack"): store.worst,
        **{
            (a, "average robust accuracy"): (lambda m, r, a=a: store.average(m, r, (a,)))
            for a in EPS
        },
    }
    places = list(product(METHODS, RATES[1:]))
    assert len(found) == len(scores) * len(places)
    for assumption, score in scores.items():
        p = []
        for method, rate in places:
            row = found.loc[(*assumption, method, rate)]
            margins = (
                store.clean_of(method, rate) - store.clean_of(method, 1.0),
                score(method, rate) - score(method, 1.0),
            )
            assert row.clean_mean == pytest.approx(margins[0].mean())
            assert row.robust_mean == pytest.approx(margins[1].mean(), abs=1e-12)
            assert row.robust_half == pytest.approx(student(margins[1]), nan_ok=True)
            each = [
                np.nan
                if np.ptp(m) < 1e-9
                else stats.ttest_1samp(m, -0.02, alternative="greater").pvalue
                for m in margins
            ]
            p.append(float(np.max(each)))
            assert row.p == pytest.approx(p[-1], nan_ok=True)
        rows = [found.loc[(*assumption, *place)] for place in places]
        assert [r.p_holm for r in rows] == pytest.approx(holm(p), nan_ok=True)


def test_crossed_and_moderated_tests_are_there_for_every_margin(both):
    _, csv = both
    pruned = rows_of(csv, "cells").query("rate > 1")
    assert pruned["p_crossed"].notna().mean() > 0.8
    assert pruned["p_moderated"].notna().all()

"""Which methods lose robustness, from which rate on: as planted, and no more than is shown."""

from __future__ import annotations

import dataclasses

from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.losses import shown_losses
from prunegrid.orchestrator.report.results import Results
from tests.report.synthetic import METHODS, RATES, synthetic

FALLS_FROM = {METHODS[0]: 8.0, METHODS[1]: 2.0}


def planted(*, seeds: int) -> Results:
    """The first two methods lose 20 and 30 points from a rate on, the third none; with half a
    point of noise."""
    noisy = synthetic(seeds=seeds, noise=0.005, rates=RATES[:4])
    cells = noisy.cells.copy()
    rows = cells.groupby(["method", "rate"]).ngroup()
    smooth = cells.groupby(["attack", "eps"])["robust_accuracy"].transform("max")
    wobble = cells["robust_accuracy"] - cells.groupby(["attack", "eps", rows])[
        "robust_accuracy"
    ].transform("mean")
    lost = [
        (0.3 if method == METHODS[1] else 0.2) * (rate >= FALLS_FROM.get(method, 100))
        for method, rate in zip(cells["method"], cells["rate"], strict=True)
    ]
    cells["robust_accuracy"] = (smooth + wobble - lost).clip(0, 1)
    return dataclasses.replace(noisy, cells=cells)


def said(results: Results) -> str:
    (part,) = analyse(results).parts()
    return " ".join(shown_losses(part))


def test_each_method_is_named_with_the_rate_at_which_it_begins_to_lose():
    text = said(planted(seeds=5))
    assert text.startswith("Robustness is shown to fall (moderated t test over seeds, Holm's ")
    early, late = text.index(METHODS[1]), text.index(METHODS[0])
    assert early < late, "who loses first stands first"
    assert f"{METHODS[1]} at rate 2 (effective 1.5; 12 of 12 attacks and ε, most −3" in text
    assert f"{METHODS[0]} at rate 8 (12 of 12 attacks and ε, most −2" in text
    assert "), not at 4." in text
    assert f"At none of its rates: {METHODS[2]}." in text


def test_what_no_test_shows_is_not_said():
    base = synthetic(seeds=3, noise=0.05)
    cells = base.cells.assign(
        robust_accuracy=base.cells.groupby(["attack", "eps", "seed"])["robust_accuracy"].transform(
            "mean"
        )
        + 0.01 * (base.cells.index % 7)
    )
    text = said(dataclasses.replace(base, cells=cells))
    assert text.startswith("No pruned model is shown to lose robustness (")
    assert said(synthetic(seeds=1)) == "With one seed no loss of robustness can be tested."

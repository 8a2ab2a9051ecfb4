"""`make chaos` in short: one round of a few harms; the seed is printed where it fails."""

from __future__ import annotations

import random

import pytest

from tests.chaos.__main__ import play, table
from tests.chaos.rounds import ChaosError, compare, undisturbed

pytestmark = pytest.mark.ray


@pytest.fixture
def own_cluster():
    """None of another test's may be joined in this process."""
    from prunegrid.orchestrator.engines.ray.start import keep_to_ourselves

    keep_to_ourselves()
    import ray

    ray.shutdown()


def test_a_round_of_harm_leaves_the_cells_of_an_undisturbed_run(own_cluster, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    reports, wrong = play(1, seed, tmp_path, acts=5)
    assert wrong == []
    assert [report.cells for report in reports] == [48]
    assert sum(report.harm.total() for report in reports) >= 1, "nothing was harmed"
    page = table(reports, 1, seed, 1.0)
    assert "**1 of 1 rounds equal**" in page
    assert str(seed) in page


def test_a_store_that_differs_in_one_value_is_found(tmp_path):
    import pandas as pd

    whole = undisturbed(tmp_path / "one")
    other = undisturbed(tmp_path / "two")
    assert compare(other, whole) == 48
    path = sorted((other / "results/cells").glob("*.parquet"))[7]
    frame = pd.read_parquet(path)
    frame["robust_accuracy"] += 1e-9
    frame.to_parquet(path)
    with pytest.raises(ChaosError, match=r"cells: .*robust_accuracy"):
        compare(other, whole)
    path.unlink()
    with pytest.raises(ChaosError, match="cells"):
        compare(other, whole)

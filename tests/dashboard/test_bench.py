"""The benchmark itself, on a small grid: it runs, and what it measures is there."""

from __future__ import annotations

import json

from tests.bench import dashboard
from tests.dashboard.browser import why_none


def test_the_benchmark_measures_a_living_store(capsys, monkeypatch):
    monkeypatch.setattr(dashboard, "VIEWERS", 3)
    dashboard.main(["--quick"])
    (record,) = json.loads(capsys.readouterr().out)["records"]
    assert (record["tasks"], record["cells"]) == (60, 48)
    assert 0 < record["page_s"] <= record["first_answer_s"] <= record["all_rows_read_s"]
    assert all(answer["bytes"] > 100 for answer in record["answers"].values())
    if why_none() is None:
        assert all(view["drawn_ms"] > 0 for view in record["browser"].values())
    else:
        assert "needs" in record["browser"]
    assert record["one_viewer"]["requests"] >= 2
    assert record["3_viewers"]["requests"] >= 6
    assert 0 < record["3_viewers"]["median_ms"] <= record["3_viewers"]["most_ms"]

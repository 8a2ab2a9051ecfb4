"""The store's benchmark itself, on a small grid: it runs, and what it measures is there."""

from __future__ import annotations

import json

from tests.bench import store as bench


def test_the_benchmark_measures_a_store_that_it_made(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    bench.main(["--quick", "--folder", str(tmp_path), "--out", str(tmp_path / "out.json")])
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((tmp_path / "out.json").read_text())
    append, small = record["append"], record["small"]
    assert (record["tasks"], append["results"], append["rows_written"]) == (60, 60, 12 + 48)
    assert (small["models"], small["cells"], small["image_rows"]) == (12, 48, 24 * 12 * 3)
    assert small["files"] == {"models": 12, "cells": 48, "images": 48}
    assert small["tables"]["clean"] == 6
    assert small["tables"]["missing"] == 0
    assert append["bytes"] > small["bytes"]["images"] > 0
    for seconds in (append["write_s"], append["bare_fsync_s"], small["open_and_tables_s"]):
        assert seconds > 0
    assert record["compacted"]["tables"] == small["tables"]
    assert record["compacted"]["image_rows"] == small["image_rows"]
    assert record["compacted"]["files"] == {"models": 1, "cells": 1, "images": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"], "the store was left behind"

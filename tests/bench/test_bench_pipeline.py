"""The bench of input pipelines runs, small, and its ratios are those of its own speeds."""

from __future__ import annotations

import json

import pytest

from tests.bench.pipeline import main

pytestmark = pytest.mark.tf


def test_three_ways_of_training_are_timed(tmp_path, capsys):
    out = tmp_path / "pipeline.json"
    main(["--architectures", "cnn5", "--images", "640", "--turns", "2", "--out", str(out)])
    (run,) = json.loads(out.read_text())["runs"]
    speed = run["images_per_s"]
    assert set(speed) == {"ours", "limit", "keras"}
    assert min(speed.values()) > 0
    assert run["of_limit"] == pytest.approx(speed["ours"] / speed["limit"])
    assert run["of_keras"] == pytest.approx(speed["ours"] / speed["keras"])
    assert json.loads(capsys.readouterr().out)["runs"] == [run]

"""`prunegrid measure`: what `auto` would choose on this machine, beside what the grid says."""

from __future__ import annotations

import json

import pytest

from prunegrid.orchestrator.cli import app, guarded
from tests.grids import AUTO, SMALL
from tests.plan.test_sizes import speed

MIXED = SMALL.replace("attack_images: 24", "attack_images: 90") + (
    "protocols: {paper: {engine: foolbox, batch_size: 48}, strict: {batch_size: 64}}\n"
)


@pytest.fixture
def measure(monkeypatch, tmp_path, capsys):
    """The command, on a machine that takes some images a second; exit code, output and errors."""

    def run(text: str, answer, *arguments: str) -> tuple[int, str, str]:
        asked = []
        monkeypatch.setattr(
            "prunegrid.orchestrator.commands.measure.measure_here",
            lambda probes, settings: asked.append((probes, settings.threads)) or answer,
        )
        (tmp_path / "grid.yaml").write_text(text)
        try:
            code = guarded(lambda: app(args=["measure", str(tmp_path / "grid.yaml"), *arguments]))
        except SystemExit as end:
            code = int(end.code or 0)
        out = capsys.readouterr()
        if asked:
            (((probe,), threads),) = asked
            assert (probe.architecture, probe.dataset, threads) == ("cnn5", "synthetic28", 1)
        return code, out.out, out.err

    return run


def test_each_attack_is_shown_beside_the_grids_numbers(measure):
    code, out, _ = measure(MIXED, (speed(scale=0.0025),))
    assert code == 0
    first, head, *rows, last = out.splitlines()
    assert first == ("cnn5, images forward and back a second (1 thread): 2 by 16, 5 by 32, 5 by 64")
    assert head.split() == [
        "architecture",
        "protocol",
        "attack",
        "batch_size",
        "images_per_shard",
        "a",
        "task",
    ]
    # Foolbox's batch is the grid's to say; a C&W shard is one, though it takes longer.
    assert [" ".join(row.split()) for row in rows] == [
        "cnn5 paper pgd_linf 48 48 (grid: 16) 58 s",
        "cnn5 paper cw_l2 48 48 (grid: 16) 1.6 min",
        "cnn5 strict pgd_linf 32 (grid: 64) 90 (grid: 16) 81 s",
        "cnn5 strict cw_l2 32 (grid: 64) 32 (grid: 16) 48 s",
    ]
    assert last.startswith("measured on Fake 9000 (fake), for 1 task at once")


def test_the_same_as_json(measure):
    code, out, _ = measure(AUTO, (speed(),), "--json", "--slots", "4")
    assert code == 0
    found = json.loads(out)
    assert found["speeds"][0]["passes_per_s"] == [1000.0, 2000.0, 2000.0]
    assert [row["attack"] for row in found["sizes"]] == ["pgd_linf", "cw_l2"]
    for row in found["sizes"]:
        assert row["grid"] == {"batch_size": "auto", "images_per_shard": "auto"}
        assert (row["batch_size"], row["images_per_shard"]) == (32, 96)


@pytest.mark.parametrize(
    ("answer", "arguments", "code", "words"),
    [
        ("MemoryError: planted", (), 1, "error: cnn5: MemoryError: planted"),
        ((), ("--slots", "0"), 2, "--slots: expected at least 1, got 0"),
        ((), ("--select", "seed=9"), 2, "seed=9"),
    ],
)
def test_what_stands_in_the_way_is_one_line(measure, answer, arguments, code, words):
    got, out, err = measure(AUTO, answer, *arguments)
    assert got == code
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1

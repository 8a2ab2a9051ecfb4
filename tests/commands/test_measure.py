"""`prunegrid measure`: sizes to write into the grid file, beside what it says."""

from __future__ import annotations

import json

import pytest
import yaml

from prunegrid.orchestrator.cli import app, guarded
from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from tests.grids import AUTO, SMALL
from tests.plan.test_task_sizes import speed

MIXED = SMALL.replace("attack_images: 24", "attack_images: 90") + (
    "protocols: {paper: {engine: foolbox, batch_size: 48}, strict: {batch_size: 64}}\n"
)


@pytest.fixture
def measure(monkeypatch, tmp_path, capsys):
    """The command, on a machine that takes some images a second; exit code, output and errors."""

    def run(text: str, answer, *arguments: str) -> tuple[int, str, str]:
        asked = []
        monkeypatch.setattr(
            "prunegrid.workers.entry.REAL_RUNNER.measure",
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
    first, _, *speeds, head = out.splitlines()[:6]
    rows = out.splitlines()[6:]
    assert first == "Fake 9000 (1 thread; start not measured); images a second:"
    # 360 images of training at 1.75 a second, and 40 of validation at 15.
    assert [" ".join(row.split()) for row in speeds] == [
        "cnn5 16 8 2 2 208.4 s 0.0 s",
        "32 15 5",
        "64 15 5",
    ]
    assert head.split() == [
        "architecture",
        "protocol",
        "attack",
        "batch_size",
        "images_per_shard",
        "a",
        "task",
    ]
    # Foolbox's batch is the grid's to say, and one shard size is for all: that of C&W there.
    assert [" ".join(row.split()) for row in rows[:4]] == [
        "cnn5 paper pgd_linf 48 48 (grid: 16) 60 s",
        "cnn5 paper cw_l2 48 48 (grid: 16) 82 s",
        "cnn5 strict pgd_linf 32 (grid: 64) 48 (grid: 16) 47 s",
        "cnn5 strict cw_l2 32 (grid: 64) 48 (grid: 16) 36 s",
    ]
    blank, where, *piece = rows[4:]
    assert (blank, where.startswith("for "), where.endswith("grid.yaml:")) == ("", True, True)
    assert piece[0] == "# measured on Fake 9000 (fake), for 1 task at once"
    assert yaml.safe_load("\n".join(piece)) == {
        "architectures": {"cnn5": {"images_per_shard": 48}},
        "protocols": {"strict": {"batch_size": 32}},
    }


def test_the_same_as_json(measure):
    code, out, _ = measure(SMALL, (speed(),), "--json", "--slots", "4")
    assert code == 0
    found = json.loads(out)
    assert found["speeds"][0]["passes_per_s"] == [1000.0, 2000.0, 2000.0]
    assert [row["attack"] for row in found["sizes"]] == ["pgd_linf", "cw_l2"]
    for row in found["sizes"]:
        assert row["grid"] == {"batch_size": 128, "images_per_shard": 16}
        assert (row["batch_size"], row["images_per_shard"]) == (16, 32)
    assert found["piece"].startswith("# measured on Fake 9000 (fake), for 4 tasks at once\n")


def test_what_it_prints_is_accepted_where_auto_is_refused(measure, tmp_path):
    """The piece takes the place of each `auto`."""
    code, out, _ = measure(AUTO, (speed(),), "--json")
    assert code == 0
    piece = yaml.safe_load(json.loads(out)["piece"])
    with pytest.raises(GridError, match=r"got auto.*'prunegrid measure GRID'"):
        parse_grid(AUTO, source="g")
    numbers = AUTO.replace("images_per_shard: auto\n", "").replace(
        "protocols: {strict: {batch_size: auto}}", f"protocols: {piece['protocols']}"
    )
    shard = f"images_per_shard: {piece['architectures']['cnn5']['images_per_shard']}\n"
    grid = parse_grid(shard + numbers, source="g")
    found = {(a.settings.batch_size, a.images_per_shard) for a in grid.architectures[0].attacks}
    assert found == {(32, 96)}


OWN = "protocols: {mine: {batch_size: 48, attacks: {cw_l2: {batch_size: 64}}}}\n"
STOCK = "protocols: {mine: {attacks: {cw_l2: {engine: foolbox-stock, batch_size: 30}}}}\n"


@pytest.mark.parametrize(
    ("protocols", "piece"),
    [
        (OWN, {"batch_size": 32, "attacks": {"cw_l2": {"batch_size": 32}}}),
        (STOCK, {"attacks": {"pgd_linf": {"batch_size": 32}}}),
    ],
)
def test_a_size_is_written_where_it_counts(measure, protocols, piece):
    """An attack's own size wins over its protocol's; one in another engine keeps its own."""
    text = SMALL.replace("attack_images: 24", "attack_images: 90") + protocols
    code, out, _ = measure(text, (speed(),), "--json")
    assert code == 0
    assert yaml.safe_load(json.loads(out)["piece"])["protocols"] == {"mine": piece}


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

"""Broken grids and command lines: each refused before anything starts, with exit code 2, the
line, what was expected, what was got, and the nearest valid name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prunegrid.orchestrator.cli import app, guarded
from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent.parent

#: name: (text replaced, by what, words that the message must have)
BROKEN_GRIDS = {
    "misspelt price": ("seeds:", "price: {per_hor: 1}\nseeds:", ["'per_hor'", "did you mean"]),
    "price without currency": (
        "seeds:",
        "price: {per_hour: 1, cpus_per_node: 8}\nseeds:",
        ["'currency'", "no default"],
    ),
    "negative price": (
        "seeds:",
        "price: {per_hour: -1, currency: USD, cpus_per_node: 8}\nseeds:",
        ["at least 0", "-1"],
    ),
    "empty currency": (
        "seeds:",
        "price: {per_hour: 1, currency: '', cpus_per_node: 8}\nseeds:",
        ["a currency such as USD", "''"],
    ),
    "price of a node without CPUs": (
        "seeds:",
        "price: {per_hour: 1, currency: USD}\nseeds:",
        ["expected cpus_per_node"],
    ),
    "price of a node without GPUs": (
        "seeds:",
        "resources: {gpus_per_task: 0.5}\nprice: {per_hour: 1, currency: USD}\nseeds:",
        ["expected gpus_per_node", "0.5 GPUs", ":3:"],
    ),
    "node too small for a task": (
        "seeds:",
        "resources: {gpus_per_task: 2}\n"
        "price: {per_hour: 1, currency: USD, gpus_per_node: 1}\nseeds:",
        ["price.gpus_per_node", "too small", "2 GPUs"],
    ),
    "a sliver of a GPU": (
        "seeds:",
        "resources: {gpus_per_task: 0.001}\nseeds:",
        ["a part of a GPU from 0.01 to 1", "got 0.001", ":2:"],
    ),
    "one GPU and a half": (
        "seeds:",
        "resources: {gpus_per_task: 1.5}\nseeds:",
        ["a whole number", "got 1.5"],
    ),
    "two prices": (
        "seeds:",
        "resources: {price_per_hour: 1}\n"
        "price: {per_hour: 1, currency: USD, cpus_per_node: 1}\nseeds:",
        ["resources.price_per_hour", "beside 'price'"],
    ),
    "unknown key": (
        "seeds: [0, 1]",
        "seeds: [0]\nseed: 1",
        ["'seed'", "did you mean 'seeds'", ":3:"],
    ),
    "missing key": ("rates: [1, 2, 4]", "", ["'rates'", "no default"]),
    "misspelt method": (
        "magnitude-global-unstructured",
        "magnitude-gobal-unstructured",
        ["'magnitude-gobal-unstructured'", "did you mean 'magnitude-global-unstructured'"],
    ),
    "misspelt architecture": ("cnn5:", "cnn55:", ["'cnn55'", "did you mean 'cnn5'", "resnet18"]),
    "misspelt data set": ("synthetic28", "synthetic82", ["'synthetic82'", "did you mean"]),
    "data of another shape": (
        "synthetic28",
        "synthetic32",
        ["(28, 28, 1)", "(32, 32, 3)", "mnist", "build: cnn5"],
    ),
    "no such function": (
        "dataset: synthetic28",
        "build: nowhere_at_all.nets:lenet\n    dataset: synthetic28",
        ["nowhere_at_all.nets:lenet: no module of that name", "beside the grid file"],
    ),
    "a file and a function": (
        "dataset: synthetic28",
        "build: a.b:c\n    model: m.keras\n    dataset: synthetic28",
        ["expected `build` or `model`, got both"],
    ),
    "no such file": (
        "dataset: synthetic28",
        "model: m.keras\n    dataset: synthetic28",
        ["m.keras: No such file"],
    ),
    "weights of no file": (
        "dataset: synthetic28",
        "weights: fresh\n    dataset: synthetic28",
        ["expected `model: FILE.keras` beside it"],
    ),
    "options of the catalog": (
        "dataset: synthetic28",
        "options: {width: 2}\n    dataset: synthetic28",
        ["expected no options of cnn5"],
    ),
    "misspelt attack": (
        "  cw_l2: {binary",
        "  cw_l3: {binary",
        ["'cw_l3'", "did you mean 'cw_l2'"],
    ),
    "misspelt option": ("{steps: 3}", "{step: 3}", ["'step'", "did you mean 'steps'"]),
    "option of another type": ("{steps: 3}", "{steps: many}", ["whole number", "'many'"]),
    "fractional steps": ("{steps: 3}", "{steps: 2.5}", ["whole number", "2.5"]),
    "no steps": ("{steps: 3}", "{steps: 0}", ["at least 1", "got 0"]),
    "boolean expected": ("{steps: 3}", "{random_start: maybe}", ["true or false", "'maybe'"]),
    "rate below one": ("rates: [1, 2, 4]", "rates: [0.5, 2]", ["at least 1", "0.5"]),
    "rate that is no number": ("rates: [1, 2, 4]", "rates: [1, two]", ["number", "'two'"]),
    "infinite rate": ("rates: [1, 2, 4]", "rates: [1, .inf]", ["number", ".inf"]),
    "duplicate rate": ("rates: [1, 2, 4]", "rates: [1, 2, 2.0]", ["twice", "2.0"]),
    "duplicate seed": ("seeds: [0, 1]", "seeds: [0, 0]", ["0 is given twice"]),
    "negative seed": ("seeds: [0, 1]", "seeds: [-1]", ["at least 0", "-1"]),
    "empty axis": ("seeds: [0, 1]", "seeds: []", ["at least one of seeds", "empty"]),
    "axis that is no list": ("seeds: [0, 1]", "seeds: 5", ["a list of seeds", "'5'"]),
    "duplicate key": ("seeds: [0, 1]", "seeds: [0]\nseeds: [1]", ["given twice", ":3:"]),
    "eps that is no number": ("cw_l2: [1, 2]", "cw_l2: [1, big]", ["number above 0", "'big'"]),
    "eps of zero": ("cw_l2: [1, 2]", "cw_l2: [0, 1]", ["above 0", "got 0"]),
    "eps over zero": ("4/255", "4/0", ["number above 0", "'4/0'"]),
    "no eps for an attack": ("      cw_l2: [1, 2]\n", "", ["eps for every attack", "cw_l2"]),
    "eps for no attack": ("cw_l2: [1, 2]", "cw_l1: [1, 2]", ["'cw_l1'", "did you mean 'cw_l2'"]),
    "too many images": ("attack_images: 24", "attack_images: 2400", ["200", "2400", "test images"]),
    "misspelt training": ("max_epochs: 2", "max_epoch: 2", ["did you mean 'max_epochs'"]),
    "negative learning rate": ("max_epochs: 2", "learning_rate: -1", ["above 0", "-1"]),
    "misspelt augmentation": ("max_epochs: 2", "augmentation: flip", ["flip_crop_6", "'flip'"]),
    "dense model": ("name: small", "dense_model: share", ["per_method, shared", "did you mean"]),
    "protocol's outputs": (
        "name: small",
        "protocols: {mine: {outputs: logit}}",
        ["logits, softmax", "did you mean 'logits'"],
    ),
    "batch of a strict attack": (
        "{steps: 3}",
        "{steps: 3, batch_size: 50}",
        ["multiple of 16", "50"],
    ),
    "batch left to measurement": (
        "name: small",
        "protocols: {mine: {batch_size: auto}}",
        ["a whole number of at least 1, got auto", "'prunegrid measure GRID'", ":1:"],
    ),
    "batch of an attack left to measurement": (
        "{steps: 3}",
        "{steps: 3, batch_size: auto}",
        ["a whole number of at least 1, got auto", "'prunegrid measure GRID'"],
    ),
    "shards left to measurement": (
        "images_per_shard: 16",
        "images_per_shard: auto",
        ["a whole number of at least 1, got auto", "'prunegrid measure GRID'", ":9:"],
    ),
    "shards of nothing": (
        "seeds:",
        "images_per_shard: 0\nseeds:",
        ["at least 1, got 0", ":2:"],
    ),
    "batch of a training": ("batch_size: 32", "batch_size: auto", ["whole number", "'auto'"]),
    "pruning schedule": (
        "name: small",
        "pruning: {schedule: oneshot}",
        ["did you mean 'one-shot'"],
    ),
    "not YAML": ("seeds: [0, 1]", "seeds: [0, 1", ["not valid YAML"]),
    "Python in YAML": (
        "name: small",
        "name: !!python/object/apply:os.getcwd []",
        ["expected a text"],
    ),
    "empty file": (SMALL, "", ["empty file"]),
    "a list": (SMALL, "- 1\n- 2\n", ["expected a grid"]),
}


def refused(arguments: list[str], capsys) -> str:
    """Run the command line in this process; it must end with exit code 2. Returns stderr."""
    try:
        code = guarded(lambda: app(args=arguments, prog_name="prunegrid"))
    except SystemExit as error:
        code = error.code
    assert code == 2
    out = capsys.readouterr()
    assert "Traceback" not in out.out + out.err
    return " ".join((out.err or out.out).split())


@pytest.mark.parametrize("name", BROKEN_GRIDS)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_broken_grid_is_refused_with_its_reason(name, command, tmp_path, capsys):
    old, new, words = BROKEN_GRIDS[name]
    assert old in SMALL
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL.replace(old, new, 1))
    store = tmp_path / "store"
    more = ["--store", str(store)] if command == "run" else []
    message = refused([command, str(grid), *more], capsys)
    assert message.startswith("error: ")
    assert str(grid) in message.replace(" ", "")
    for word in words:
        assert word in message, f"expected {word!r} in: {message}"
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan"], ["GRID"]),
        (["plan", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["plna"], ["plna", "plan"]),
        (["plan", "GRID", "--jsno"], ["--jsno", "--json"]),
        (["run", "GRID"], ["--store"]),
        (["run", "GRID", "--store", "S", "--engine", "slurm"], ["slurm", "inline"]),
        *(
            (
                ["run", "GRID", "--store", "S", "--address", address],
                ["--address, or RAY_ADDRESS: expected auto, host:port, or none", repr(address)],
            )
            for address in (
                "nonsense",
                "10.0.0.1",
                "head:port",
                ":6379",
                "head:0",
                "head:65536",
                "ray://",
                "a b:6379",
                "head:6379:1",
                "::1:6379",
            )
        ),
        (["tune", "GRID", "--store", "S", "--attack", "pgd_linf", "--address", "x"], ["host:port"]),
        (["plan", "GRID", "--select", "sed=0"], ["'sed'", "did you mean 'seed'"]),
        (["plan", "GRID", "--select", "seed=9"], ["seed=9", "0, 1"]),
        (["plan", "GRID", "--select", "seed=one"], ["seed=one", "a number"]),
        (["plan", "GRID", "--select", "seed"], ["axis=value"]),
        (["plan", "GRID", "--select", "method=random-local-flter"], ["did you mean"]),
        (["plan", "GRID", "--select", "attack=pgd"], ["pgd_linf, cw_l2", "'pgd'"]),
        (["plan", "GRID", "--select", "eps=3"], ["eps=3"]),
        (["plan", "GRID", "--store", ""], ["a folder, s3://", "got ''"]),
        (["run", "GRID", "--store", ""], ["a folder, s3://", "got ''"]),
        (["run", "GRID", "--store", "GRID"], ["a file stands where a folder is needed"]),
        (["run", "GRID", "--store", "LINK"], ["a link to nothing stands where"]),
        (["run", "GRID", "--store", "FULL"], ["not a prunegrid store", "thesis.tex"]),
        (["run", "GRID", "--store", "S", "--report", "FULL"], ["not a report", "thesis.tex"]),
        (["run", "GRID", "--store", "S", "--data-dir", "GRID"], ["--data-dir", "is a file"]),
        (["prepare", "GRID", "--data-dir", "GRID"], ["--data-dir", "is a file"]),
        (["report", "--store", "S", "--out", "FULL"], ["no store here"]),
        (["report", "--store", "FULL", "--out", "S"], ["not a prunegrid store: it holds"]),
        (["dashboard", "--store", "GRID"], ["a file stands where a folder is needed"]),
        (["dashboard", "--store", "FULL", "--port", "99999"], ["not a prunegrid store: it holds"]),
        (["import-authors", "nowhere.parquet", "--store", "S"], ["nowhere.parquet"]),
        (["status"], ["--store"]),
        (["status", "--store", "GRID"], ["a file stands where a folder is needed"]),
        (["status", "--store", "ftp://x/y"], ["a folder, s3://", "'ftp://x/y'"]),
        (["status", "--store", "s3://"], ["expected s3://bucket/path, got 's3://'"]),
        (["status", "--store", "S"], ["no store here", "prunegrid run GRID --store"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("plan", "run") else None,
)
def test_a_broken_command_line_is_refused(arguments, words, tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    paths = {"GRID": "grid.yaml", "S": "store", "FULL": "full", "LINK": "link"}
    message = refused([str(tmp_path / paths[a]) if a in paths else a for a in arguments], capsys)
    for word in words:
        assert word in message, f"expected {word!r} in: {message}"
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "nothing").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_the_whole_program_exits_with_2_and_one_line(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL.replace("rates: [1, 2, 4]", "rates: [0]"))
    done = subprocess.run(
        [sys.executable, "-m", "prunegrid", "plan", str(grid)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (f"error: {grid}:3: rates.0: expected a number of at least 1, got 0\n")


def test_the_small_grid_itself_is_fine(tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL)
    with pytest.raises(SystemExit) as end:
        guarded(lambda: app(args=["plan", str(grid), "--json"], prog_name="prunegrid"))
    assert end.value.code == 0

"""A network is what its function builds: keys follow it, and nothing else of how it is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers import identity
from prunegrid.workers.catalog import ARCHITECTURES, ArchitectureEntry
from prunegrid.workers.models import cnn5
from prunegrid.workers.network_facts import NetworkRequest
from prunegrid.workers.user_code import sources_digest
from tests.grids import SMALL

RECORDED = [entry for entry in ARCHITECTURES.values() if entry.configuration]
LENET = """
import keras
from lenet_parts import UNITS

def build(inputs, classes, layers):
    x = keras.layers.Flatten(name="flatten")(inputs)
    x = layers.dense(x, "dense1", UNITS, relu=True)
    return layers.dense(x, "logits", classes)
"""


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry.name)
def test_the_recorded_sources_are_those_of_the_files(entry):
    """Else each driver asks a child process once. Record the digest that is found here."""
    assert sources_digest(entry.target) == entry.sources
    assert identity.identity(entry.name) == ""


@pytest.mark.tf
@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry.name)
def test_the_recorded_configuration_is_what_the_function_builds(entry):
    """Where this fails, results of this name are of another network: leave the record, and their
    keys stay apart by themselves."""
    from prunegrid.workers.models.describe import facts_of

    request = NetworkRequest(target=entry.target, input_shape=entry.input_shape, classes=10)
    facts = facts_of(request)
    assert facts.configuration == entry.configuration
    assert facts.prunable_weights == entry.prunable_weights
    assert facts.structured_weights == entry.conv_weights
    assert facts.forward_flops == entry.forward_flops


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On the path; with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def put(monkeypatch: pytest.MonkeyPatch, entry: ArchitectureEntry) -> None:
    changed = {**ARCHITECTURES, entry.name: entry}
    monkeypatch.setattr(identity, "ARCHITECTURES", changed)
    monkeypatch.setattr("prunegrid.orchestrator.grid.file.ARCHITECTURES", changed)


def keys(name: str = "cnn5") -> list[str]:
    return list(expand(parse_grid(SMALL.replace("cnn5:", f"{name}:"), source="test")).tasks)


@pytest.mark.tf
def test_an_edited_network_of_a_recorded_name_has_other_keys(folder, monkeypatch):
    before = keys()
    source = Path(cnn5.__file__).read_text()
    entry = dataclasses.replace(ARCHITECTURES["cnn5"], target="cnn5_copy:build")
    put(monkeypatch, entry)
    (folder / "cnn5_copy.py").write_text(f"{source}# a remark\n")
    assert keys() == before, "the same network, otherwise written"
    (folder / "cnn5_copy.py").write_text(source.replace('"dense1", 120', '"dense1", 500'))
    assert not set(keys()) & set(before)
    (folder / "cnn5_copy.py").write_text(source)
    assert keys() == before


@pytest.mark.tf
def test_a_new_name_has_the_keys_of_what_it_builds(folder, monkeypatch):
    put(monkeypatch, dataclasses.replace(
        ARCHITECTURES["cnn5"], name="lenet", target="lenet:build", configuration="", sources=""
    ))  # fmt: skip
    (folder / "lenet.py").write_text(LENET)
    (folder / "lenet_parts.py").write_text("UNITS = 300\n")
    before = keys("lenet")
    (folder / "lenet_parts.py").write_text("UNITS = 500\n")
    assert not set(keys("lenet")) & set(before)


@pytest.mark.tf
@pytest.mark.usefixtures("cold_children")
def test_a_network_that_cannot_be_pruned_is_refused_with_the_grid_file(folder, monkeypatch):
    put(monkeypatch, dataclasses.replace(ARCHITECTURES["cnn5"], target="odd:build", sources=""))
    (folder / "odd.py").write_text(
        "import keras\n"
        "def build(inputs, classes, layers):\n"
        "    print('said by a library')\n"
        "    rows = keras.layers.Reshape((28, 28))(inputs)\n"
        "    return layers.dense(keras.layers.LSTM(3, name='inner')(rows), 'logits', classes)\n"
    )
    expected = (
        r"test:7: architectures.cnn5: can't be built: layer 'inner/lstm_cell' \(LSTMCell\) can't "
        r"be pruned and counted: its weights kernel, recurrent_kernel are none of convolutions"
    )
    with pytest.raises(GridError, match=expected):
        keys()

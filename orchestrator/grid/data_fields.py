"""The `datasets` part of a grid file: data sets of one's own, each read from one source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prunegrid.orchestrator.errors import expected
from prunegrid.orchestrator.grid.fields import TEXT, Field, Kind, Table, maybe, number, whole
from prunegrid.orchestrator.grid.user_fields import OPTIONS, TARGET, VERSION, user_code
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.catalog import DATASETS
from prunegrid.workers.data.description import described
from prunegrid.workers.dataset_entry import DatasetEntry
from prunegrid.workers.user_code import OptionValue, UserCode

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_READERS: Mapping[str, str] = {
    "npz": "prunegrid.workers.data.own_sources:read_npz",
    "images": "prunegrid.workers.data.own_sources:read_images",
    "tfds": "prunegrid.workers.data.tfds_sets:read_tfds",
    "huggingface": "prunegrid.workers.data.own_sources:read_huggingface",
}
#: What each source takes beside its own key.
_BESIDE: Mapping[str, tuple[str, ...]] = {
    "npz": (),
    "images": ("size", "test_frac", "split_seed"),
    "tfds": ("size", "test_frac", "split_seed"),
    "huggingface": ("size", "test_frac", "split_seed"),
    "load": ("options", "version"),
}


def _read_size(node: YamlNode) -> tuple[int, int]:
    sides = [part.integer(minimum=1) for part in node.items(what="height and width")]
    if len(sides) != 2:
        raise node.fail(f"expected [height, width], got {len(sides)} numbers")
    return sides[0], sides[1]


class DatasetTable(Table):
    """A data set of one's own, under a label of its own: one of `npz`, `images`, `tfds`,
    `huggingface` and `load` ([Your own](own.md))."""

    path = "datasets.LABEL"
    npz = Field(maybe(TEXT), "file with x_train, y_train, x_test, y_test", default=None)
    images = Field(
        maybe(TEXT),
        "folder with a folder for each class, or with such in train/ and test/",
        default=None,
    )
    tfds = Field(maybe(TEXT), "name of a set of TensorFlow Datasets", default=None)
    huggingface = Field(maybe(TEXT), "name of a set of the Hugging Face hub", default=None)
    load = Field(
        maybe(TARGET),
        "function that returns the arrays",
        default=None,
    )
    size: Field[tuple[int, int] | None] = Field(
        maybe(Kind("`[height, width]`", _read_size)),
        "images are resized to it",
        default=None,
        shown="as they are",
    )
    test_frac = Field(
        number(above=0, below=1),
        "part of each class for tests, where the source has no such split",
        default=0.2,
    )
    split_seed = Field(whole(minimum=0), "draws that part", default=0)
    options = OPTIONS
    version = VERSION


@dataclass(frozen=True, kw_only=True)
class OwnDatasets:
    """The data sets that a grid can name: the catalog's, and its own, read when first asked for."""

    readers: Mapping[str, tuple[UserCode, YamlNode]]  #: by label
    data_dir: Path | None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.readers, *DATASETS)

    def entry(self, node: YamlNode) -> tuple[DatasetEntry, bool]:
        """What a node names, and whether it is the grid's own. Raises GridError at the data set's
        place in the file where it can't be read."""
        name = node.choice(self.names)
        if name not in self.readers:
            return DATASETS[name], False
        reader, place = self.readers[name]
        try:
            return described(name, reader, self.data_dir), True
        except ValueError as error:
            raise place.fail(str(error)) from error


def read_datasets(node: YamlNode | None, *, data_dir: Path | None) -> OwnDatasets:
    """Paths are relative to the grid file. Raises GridError."""
    parts = {} if node is None else node.mapping(what="a mapping of labels to data sets")
    readers: dict[str, tuple[UserCode, YamlNode]] = {}
    for label, part in parts.items():
        if label in DATASETS:
            raise part.fail(f"{label} is a data set of the catalog; expected a label of its own")
        if not _LABEL.fullmatch(label):
            raise part.fail(f"expected a label of letters, digits, '_', '.' and '-', got {label!r}")
        readers[label] = (_read_one(part), part)
    return OwnDatasets(readers=readers, data_dir=data_dir)


def _read_one(node: YamlNode) -> UserCode:
    own = node.mapping(DatasetTable.names(), what=f"a mapping with one of {', '.join(_BESIDE)}")
    kinds = [name for name in own if name in _BESIDE]
    if len(kinds) != 1:
        got = " and ".join(kinds) or "none of them"
        raise node.fail(f"expected one of {', '.join(_BESIDE)}, got {got}")
    kind = kinds[0]
    for name, part in own.items():
        if name != kind and name not in _BESIDE[kind]:
            fit = ", ".join(k for k, names in _BESIDE.items() if name in names)
            takes = expected(_BESIDE[kind], name) if _BESIDE[kind] else f"expected no {name}"
            raise part.fail(f"{kind} takes no such key: {takes} (it is for {fit})")
    if kind == "load":
        return user_code(TARGET.read(own["load"]), own, node)
    source = own[kind].text()
    options: dict[str, OptionValue] = {}
    if kind in ("npz", "images"):
        options["path"] = node.beside(source)
    else:
        options["name"] = source
    if _BESIDE[kind]:
        size = DatasetTable.size.of(own, node)
        if size is not None:
            options |= {"height": size[0], "width": size[1]}
        options["test_frac"] = DatasetTable.test_frac.of(own, node)
        options["split_seed"] = DatasetTable.split_seed.of(own, node)
    return UserCode(target=_READERS[kind], options=tuple(sorted(options.items())))

"""What `import prunegrid` offers. The commands `report`, `verify` and `merge` call it; `run`, which
shows more on the way, shares the code below it.

Every function raises `PrunegridError`, one line that names the cause, for whatever a user can mend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

import yaml

from prunegrid.orchestrator.driver.launch import RunOptions, run_options
from prunegrid.orchestrator.driver.recorder import Recorder
from prunegrid.orchestrator.driver.run_view import RunResult
from prunegrid.orchestrator.errors import GridError, PrunegridError, StoreError, UsageError
from prunegrid.orchestrator.grid.file import parse_grid, read_grid
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.grid.selection import quoted
from prunegrid.orchestrator.output import Terminal, in_notebook, plain
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store, store_files
from prunegrid.orchestrator.store.union import (
    MergeResult,
    check_apart,
    compare_stores,
    merge_stores,
    share_names,
)
from prunegrid.workers import layout
from prunegrid.workers.user_code import look_beside

if TYPE_CHECKING:
    import pandas as pd

    from prunegrid.orchestrator.report.analysis import Against
    from prunegrid.orchestrator.report.write import ReportPaths
    from prunegrid.orchestrator.verify.store_finding import StoreFindings

__all__ = [
    "Grid",
    "MergeResult",
    "OpenedStore",
    "PrunegridError",
    "RunResult",
    "make_grid",
    "merge",
    "open_store",
    "read_grid",
    "report",
    "run",
]

#: What an error of a grid made in Python calls its file.
_IN_PYTHON = "grid"


def make_grid(**keys: object) -> Grid:
    """A grid from plain Python: the keys of a grid file, with dicts, lists, numbers and texts as
    their values, or ranges, tuples, paths and NumPy's numbers and arrays.

    `make_grid(seeds=[0, 1], rates=[1, 4], methods=["magnitude-global-unstructured"], ...)`

    It is the grid that a file with the same content gives, with the same task keys. Raises
    GridError, as for a file; its line is that of the same grid as YAML, which it shows.
    """
    try:
        text = yaml.safe_dump(
            _plain_data(keys), sort_keys=False, allow_unicode=True, default_flow_style=None
        )
    except (yaml.YAMLError, RecursionError) as error:
        what = _shown(error.args[-1]) if isinstance(error, yaml.YAMLError) else "one within itself"
        raise GridError(
            f"expected dicts, lists, numbers and texts, got another object: {what}",
            file=_IN_PYTHON,
            line=None,
        ) from None
    look_beside(Path(_IN_PYTHON))
    try:
        return parse_grid(text, source=_IN_PYTHON)
    except GridError as error:
        if error.line is None:
            raise
        shown = text.splitlines()[error.line - 1].strip()
        message = str(error).removeprefix(f"{_IN_PYTHON}:{error.line}: ")
        raise GridError(f"{message} (in `{shown}`)", file=_IN_PYTHON, line=None) from None


def _plain_data(value: object) -> object:
    """As YAML knows it; what it does not know stays."""
    if isinstance(value, Mapping):
        return {name: _plain_data(each) for name, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain_data(each) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    if callable(as_list := getattr(value, "tolist", None)):  # NumPy's, pandas'
        return as_list()
    return value


def _shown(value: object) -> str:
    """What was given instead, in one line of at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _address(name: str, value: object) -> str:
    """A path or an address as text. Raises UsageError."""
    if isinstance(value, str | PurePath):
        return str(value)
    raise UsageError(f"{name}: expected a path or an address, got {_shown(value)}")


def _require(is_right: bool, name: str, expected: str, value: object) -> None:
    if not is_right:
        raise UsageError(f"{name}: expected {expected}, got {_shown(value)}")


# Parameters: one for each option of `prunegrid run`.
def run(
    grid: Grid | Path | str,
    store: Path | str,
    *,
    select: Mapping[str, object] | None = None,
    engine: Literal["ray", "inline"] = "ray",
    address: str | None = None,
    data_dir: Path | str | None = None,
    slices: bool = False,
    slots: int | None = None,
) -> RunResult:
    """Run what is not done yet; running again resumes.

    `grid`: a grid, or the path of a grid file. `store`: a folder, `s3://bucket/path` or
    `gs://bucket/path`; a new one is made. `select`: only these coordinates, each axis with a value
    or a list of values: `{"seed": [0, 1], "attack": "pgd_linf"}`. `engine`: `"ray"` starts Ray here
    or joins the cluster at `address`; `"inline"` computes in this process. `data_dir`: where
    prepared data sets are kept. `slices`: finish publishable slices one by one. `slots`: at most so
    many tasks at once.

    Shows its progress: in a notebook, as one output that changes. Ctrl-C (in a notebook, "interrupt
    the kernel") stops in order: what runs saves its state, and the result says `interrupted`. A
    second one raises KeyboardInterrupt at once. The same call resumes, either way.

    Returns which cells have no result and which tasks failed, and `elapsed_s` in seconds; tasks
    that fail raise nothing. Raises GridError, UsageError, StoreError where another driver holds the
    store, and EngineError.
    """
    is_grid = isinstance(grid, Grid | str | PurePath)
    _require(is_grid, "grid", "a grid (make_grid, read_grid) or the path of a grid file", grid)
    _require(engine in ("ray", "inline"), "engine", "one of 'ray', 'inline'", engine)
    _require(address is None or isinstance(address, str), "address", "a text or None", address)
    _require(isinstance(slices, bool), "slices", "True or False", slices)
    is_count = type(slots) is int and slots >= 1
    _require(slots is None or is_count, "slots", "a whole number of at least 1, or None", slots)
    if data_dir is not None:
        _address("data_dir", data_dir)
    options = RunOptions(
        grid=grid if isinstance(grid, Grid) else Path(grid),
        store=_address("store", store),
        select=_selection({} if select is None else select),
        address=address,
        engine=engine,
        data_dir=None if data_dir is None else str(Path(data_dir).expanduser().absolute()),
        slices=slices,
        slots=slots,
    )
    try:
        return run_options(options, _console()).result
    except SystemExit:  # of the second signal
        raise KeyboardInterrupt from None


def _selection(select: Mapping[str, object]) -> tuple[str, ...]:
    """As `--select` takes it. Raises UsageError."""
    expected = 'a dict such as {"seed": [0, 1]}'
    _require(isinstance(select, Mapping), "select", expected, select)
    out = []
    for axis, given in select.items():
        values = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
        out.append(f"{axis}={','.join(quoted(str(value)) for value in values)}")
    return tuple(out)


def _console() -> Terminal:
    """In a notebook the lines are plain text."""
    return Terminal(force_jupyter=False, force_terminal=False) if in_notebook() else Terminal()


def open_store(address: Path | str) -> OpenedStore:
    """An existing store, to read; also while a grid runs into it. Raises StoreError where there is
    none."""
    return OpenedStore(Store.open(_address("address", address)))


class OpenedStore:
    """The results of one store. Each call reads what is there now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.address = store.address

    def __repr__(self) -> str:
        return f"<store {self.address}>"

    def models(self) -> pd.DataFrame:
        """A row for each trained and pruned model.

        Columns: coordinates (`architecture`, `dataset`, `variant`, `method`, `rate`, `seed`);
        `accuracy` on the test split (0 to 1; missing where the model diverged), `loss`; `epochs`;
        `effective_rate`, prunable weights before over after; `speedup`, multiply-adds before over
        after; `latency_ms`, milliseconds of one forward pass where the grid asks for it; and where
        the row comes from (`task_key`, `host`, `started_at`, `duration_s` in seconds, ...).
        docs/store.md has them all.
        """
        from prunegrid.orchestrator.report.results import load_results

        return load_results(self._store.files).models

    def cells(self) -> pd.DataFrame:
        """A row for each cell: a model under one attack at one eps, by one protocol.

        Columns: the model's coordinates and `protocol`, `attack`, `norm`, `eps` (in the norm's
        units, pixels in 0 to 1); `robust_accuracy` and `clean_accuracy` (0 to 1) over `n_images`
        attacked images; `distance_q10` to `distance_q90`, quantiles of a minimum-norm attack's
        distances; `flags`, signs of masked gradients; and where the row comes from. Cells of models
        that diverged are left out, as the report does.
        """
        from prunegrid.orchestrator.report.results import load_results

        return load_results(self._store.files).cells

    def images(self) -> pd.DataFrame:
        """A row for each attacked image, and each eps where the attack runs once per eps.

        Columns: `task_key`, `model_key`, `attack`, `image` (index in `split`), `eps`, `label`,
        `clean_prediction`, `adversarial_prediction`, `distance` (in the attack's norm; 0 if
        misclassified to begin with, infinite if no adversarial was found), `broken`, `verified`,
        `queries` (forward passes), and where the row comes from.
        """
        from prunegrid.orchestrator.store.frames import read_rows

        return read_rows(self._store.files, layout.IMAGE_ROWS)

    def verify(self) -> StoreFindings:
        """Every claim of the store checked again; an empty list where nothing is doubted. Each
        finding has a `name`, a place (`where`) and a `message`; the list's `mixed` says which rows
        were made by other code, libraries or devices, its `notes` what could not be checked. What
        can't be read is a finding."""
        from prunegrid.orchestrator.verify.store_finding import StoreFinding, StoreFindings
        from prunegrid.orchestrator.verify.verify import Verifier

        verifier = Verifier(self._store)
        found = StoreFindings()
        try:
            for finding in verifier.findings():  # those before an error are kept
                found.append(finding)
        except PrunegridError as error:
            message = str(error)
            found.append(StoreFinding(name="unreadable", where=self.address, message=message))
        found.mixed, found.notes = verifier.mixed, verifier.notes
        return found


def report(
    store: Path | str,
    out: Path | str,
    *,
    against: Path | str | None = None,
    contrast: tuple[str, str] | None = None,
    formats: Collection[str] | None = None,
) -> ReportPaths:
    """Write tables, figures and findings of a store into the folder `out`, which is new, empty or
    an earlier report.

    `against`: `"paper"` sets the published tables beside them, an address another store's results.
    `contrast`: two methods, the first against the second at equal compression.
    `formats`: some of `"html"`, `"csv"`, `"latex"`, `"figures"`, `"cards"`; all where None.

    Returns the paths: `page`, the page, and `files`, all that was written. Raises StoreError where
    no model is finished, UsageError.
    """
    if contrast is not None:
        is_pair = isinstance(contrast, Sequence) and not isinstance(contrast, str)
        is_pair = is_pair and len(contrast) == 2 and contrast[0] != contrast[1]
        _require(is_pair, "contrast", "two different methods", contrast)
    if formats is not None:
        is_some = isinstance(formats, Collection) and not isinstance(formats, str) and formats
        _require(bool(is_some), "formats", "a list of some, or None for all", formats)
    opened = Store.open(_address("store", store))
    beside = None if against is None else _address("against", against)
    folder = Path(_address("out", out))
    plan = plan_of(opened)
    written = report_plan(opened, folder, plan, against=beside, contrast=contrast, formats=formats)
    if written is None:
        raise StoreError(f"{opened.address}: no finished model to report on yet")
    return written


# Parameters: those of `report`, and what a plan gives.
def report_plan(
    store: Store,
    out: Path,
    plan: Plan | None,
    *,
    against: str | None = None,
    contrast: tuple[str, str] | None = None,
    formats: Collection[str] | None = None,
    title: str | None = None,
) -> ReportPaths | None:
    """As `report`, of what a plan asks for; None where no model is finished."""
    from prunegrid.orchestrator.report.evidence import gather
    from prunegrid.orchestrator.report.results import load_results
    from prunegrid.orchestrator.report.write import FORMATS, write_report

    results = load_results(store.files)
    if results.models.empty:
        return None
    beside: Against | None = None
    if against == "paper":
        beside = "paper"
    elif against is not None:
        beside = load_results(Store.open(against).files)
    return write_report(
        results,
        out,
        planned=None if plan is None else [cell.place for cell in plan.cells],
        against=beside,
        contrast=contrast,
        evidence=gather(store.files, results, plan),
        title=title,
        formats=FORMATS if formats is None else formats,
    )


def plan_of(store: Store) -> Plan | None:
    """What the store's own grid asks for; None where no grid was run, or rows were imported."""
    if store.read_text(layout.GRID) is None or any(store.files.list("imported")):
        return None
    return load_plan(store)


def merge(stores: Sequence[Path | str], into: Path | str) -> MergeResult:
    """Copy the results of several stores into one: a new or empty folder, or a store to add to.

    Nothing is replaced. Raises StoreError, before anything is written, where two stores hold
    different results of one task, or one cell by different settings; where a driver runs one of
    them; and UsageError where one is named twice.
    """
    are_some = isinstance(stores, Collection) and not isinstance(stores, str) and stores
    _require(bool(are_some), "stores", "a list of paths or addresses", stores)
    sources = [Store.open(_address("stores", address)) for address in stores]
    place = _address("into", into)
    check_apart(sources, store_files(place).address)
    there, say = Store.find(place), plain(_console())
    first_names = share_names(sources, there)
    compared = None if there else compare_stores(sources, say=say)  # a refusal makes no store
    target = Store.open_or_create(place, first_names=first_names)
    with Lease.take(target, say=say):
        merged = merge_stores(sources, target, say=say, compared=compared)
        if merged.is_one_grid:
            plan = load_plan(target, whole=True)
            Recorder(plan, target).catch_up(target.whole() & plan.tasks.keys())
    return merged

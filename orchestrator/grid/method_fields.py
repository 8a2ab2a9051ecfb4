"""The `methods` part of a grid file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from prunegrid.orchestrator.errors import expected
from prunegrid.orchestrator.grid.fields import (
    TEXT,
    Field,
    Kind,
    Table,
    choice,
    maybe,
    number,
    unique,
)
from prunegrid.orchestrator.grid.grid import PlannedMethod
from prunegrid.orchestrator.grid.typed_options import typed_code
from prunegrid.orchestrator.grid.user_fields import OPTIONS, VERSION
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.catalog import METHODS, SCORES
from prunegrid.workers.method_entry import (
    SCOPES,
    STRUCTURES,
    MethodEntry,
    Scope,
    Structure,
    pattern_of,
)
from prunegrid.workers.user_code import is_target


def _read_score(node: YamlNode) -> str:
    name = node.text()
    if name not in SCORES and not is_target(name):
        raise node.fail(f"{expected(SCORES, name)} (or a function, as module:function)")
    return name


def _read_structure(node: YamlNode) -> Structure:
    name = node.text()
    if name not in STRUCTURES and pattern_of(name) is None:
        raise node.fail(f"{expected(STRUCTURES, name)} (or a pattern, such as 2:4)")
    return name


class MethodTable(Table):
    """A method by its parts: a name of the catalog is `SCORE-SCOPE-STRUCTURE`."""

    path = "methods[]"
    score = Field(
        Kind(
            f"{', '.join(f'`{name}`' for name in SCORES)}, or `module:function`",
            _read_score,
        ),
        "what units are ranked by",
    )
    scope: Field[Scope] = Field(
        choice(SCOPES),
        "layer by layer, or all layers together; matched: as many of each layer as "
        "magnitude-global keeps",
        default="local",
    )
    structure = Field(
        Kind(
            f"{', '.join(f'`{name}`' for name in STRUCTURES)}, or a pattern such as `2:4`",
            _read_structure,
        ),
        "what is removed as a whole",
        default="unstructured",
    )
    options = OPTIONS
    version = VERSION
    name = Field(maybe(TEXT), "in tables", default=None, shown="`SCORE-SCOPE-STRUCTURE`")
    rates = Field(
        maybe(unique(number(minimum=1), "compression rates")),
        "of this method",
        default=None,
        shown="the grid's; M/N of a pattern N:M",
    )


def read_methods(node: YamlNode, rates: Sequence[float]) -> tuple[PlannedMethod, ...]:
    """`rates`: the grid's, for methods that say none. Raises GridError."""
    out: list[PlannedMethod] = []
    for item in node.items(what="pruning methods"):
        method = _read_method(item, rates)
        if method.entry.name in (other.entry.name for other in out):
            hint = "; expected a `name` of its own" if item.is_mapping else ""
            raise item.fail(f"{method.entry.name!r} is given twice{hint}")
        out.append(method)
    return tuple(out)


def _read_method(node: YamlNode, rates: Sequence[float]) -> PlannedMethod:
    if not node.is_mapping:
        entry = METHODS[node.choice(METHODS)]
        code = typed_code(entry.score.target, {}, node, given=("scoring",))
        return _planned(dataclasses.replace(entry, score=code), _rates(entry, rates))
    own = node.mapping(MethodTable.names())
    table = MethodTable
    score, scope = table.score.of(own, node), table.scope.of(own, node)
    structure = table.structure.of(own, node)
    if pattern_of(structure) is not None and scope != "local":
        raise own["scope"].fail(f"expected local for the pattern {structure}, got {scope}")
    code = typed_code(SCORES.get(score, score), own, own["score"], given=("scoring",))
    label = table.name.of(own, node) or ""
    entry = MethodEntry(
        criterion=score if score in SCORES else score.partition(":")[2].replace("_", "-"),
        score=code,
        scope=scope,
        structure=structure,
        label=label,
    )
    if entry.name in METHODS and (label or score not in SCORES):
        raise own.get("name", node).fail(
            f"{entry.name!r} is a method of the catalog; expected a `name` of its own"
        )
    same = METHODS.get(dataclasses.replace(entry, label="").name)
    if label and same is not None and same.score == code:
        raise own["name"].fail(f"{same.name!r} of the catalog is the same; expected no name")
    given = table.rates.of(own, node)
    chosen = tuple(sorted(given)) if given is not None else _rates(entry, rates)
    if entry.rate is not None and (wrong := [r for r in chosen if r not in (1, entry.rate)]):
        raise own["rates"].fail(
            f"expected 1 and {entry.rate:g}, the rates of the pattern {structure}, got {wrong[0]:g}"
        )
    return _planned(entry, chosen)


def _rates(entry: MethodEntry, rates: Sequence[float]) -> tuple[float, ...]:
    """The grid's, or a pattern's own."""
    if entry.rate is None:
        return tuple(sorted(rates))
    return (1.0, entry.rate) if 1 in rates else (entry.rate,)


def _planned(entry: MethodEntry, rates: tuple[float, ...]) -> PlannedMethod:
    known = METHODS.get(entry.name)
    in_catalog = known is not None and known.score == entry.score
    return PlannedMethod(entry=entry, rates=rates, in_catalog=in_catalog)

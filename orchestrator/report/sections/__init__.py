"""The report's sections. Every module of this folder is one: it has a class of `section.py` and
`SECTION`, an instance of it. A new table of the report is a new module here, and nothing else."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from prunegrid.orchestrator.report.section import Section


def _load() -> tuple[Section, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: list[Section] = [import_module(f"{__name__}.{name}").SECTION for name in names]
    return tuple(sorted(found, key=lambda section: section.order))


SECTIONS = _load()

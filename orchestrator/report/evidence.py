"""What cell rows alone do not tell: the images, and which attacks also ran with twice the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.report.convergence import DoubledSteps, find_doubled
from prunegrid.orchestrator.report.images import TaskImages, load_images
from prunegrid.orchestrator.report.results import Results
from prunegrid.workers.files import Files


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    images: Mapping[str, TaskImages] = field(default_factory=dict)  #: by attack task
    doubled: tuple[DoubledSteps, ...] = ()  #: attacks that also ran with twice the steps


NO_EVIDENCE = Evidence()


def gather(files: Files, results: Results, plan: Plan | None) -> Evidence:
    """Of a store's cells; without a plan nothing is known of steps."""
    tasks = {key for keys in results.cells["task_keys"] if keys is not None for key in keys}
    doubled = find_doubled(plan) if plan is not None else ()
    return Evidence(images=load_images(files, tasks), doubled=doubled)

"""What does compressing this network do to its robustness? Train, prune and attack whole grids.

The two halves, `prunegrid.orchestrator` and `prunegrid.workers`, are the folders of those names at
the top of the repository; here they are links. The import name is one, whatever else is called
`workers` on a machine. The names below are loaded when they are first used: workers import this
package too, and need none of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunegrid.orchestrator.python_api import (
        Grid,
        MergeResult,
        OpenedStore,
        PrunegridError,
        RunResult,
        make_grid,
        merge,
        open_store,
        read_grid,
        report,
        run,
    )

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prunegrid.orchestrator import python_api

    return getattr(python_api, name)

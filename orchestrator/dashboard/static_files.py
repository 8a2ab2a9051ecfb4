"""The page's own files, and plotly.js from the installed package: nothing comes from a network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from prunegrid.orchestrator.dashboard.bodies import Body

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PLOTLY = "plotly.min.js"


class StaticFiles:
    """By name; each is read once, and again after it has changed."""

    def __init__(self) -> None:
        self._bodies: dict[str, tuple[int, Body]] = {}

    def names(self) -> list[str]:
        """Of the page's own files."""
        return sorted(p.name for p in _FOLDER.iterdir() if p.suffix in _TYPES and p.is_file())

    def get(self, name: str) -> Body | None:
        """None where there is no such file."""
        path = plotly_file() if name == PLOTLY else _FOLDER / name
        if name != PLOTLY and name not in self.names():
            return None
        changed_ns = path.stat().st_mtime_ns
        known = self._bodies.get(name)
        if known is None or known[0] != changed_ns:
            known = (changed_ns, Body(path.read_bytes(), _TYPES[path.suffix]))
            self._bodies[name] = known
        return known[1]


def plotly_file() -> Path:
    """plotly.js inside the installed plotly package, without importing that."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / PLOTLY

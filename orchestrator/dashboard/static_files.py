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
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
PLOTLY = "plotly.min.js"
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#3b6ea8">'
    '<path d="M1 1h4v4H1zM6 1h4v4H6zM1 6h4v4H1z"/><path d="M11 1h4v4h-4zM6 6h4v4H6zM1 11h4v4H1z" '
    'opacity=".6"/><path d="M11 6h4v4h-4zM6 11h4v4H6zM11 11h4v4h-4z" opacity=".25"/></g></svg>'
)
_NO_PAGE = """<!doctype html><meta charset="utf-8"><title>prunegrid</title>
<p>The page is not installed; the numbers are in <a href="api/status.json">api/status.json</a>.</p>
"""


class StaticFiles:
    """By name; each is read once, and again after it has changed."""

    def __init__(self) -> None:
        self._bodies: dict[str, tuple[int, Body]] = {}

    def names(self) -> list[str]:
        """Of the page's own files, without index.html."""
        if not _FOLDER.is_dir():
            return []
        return sorted(p.name for p in _FOLDER.iterdir() if p.suffix in _TYPES and p.is_file())

    def get(self, name: str) -> Body | None:
        """None where there is no such file."""
        if name == "favicon.ico" and not (_FOLDER / name).is_file():
            return Body(_ICON.encode(), _TYPES[".svg"])
        if name == "index.html" and not (_FOLDER / name).is_file():
            return Body(_NO_PAGE.encode(), _TYPES[".html"])
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
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package plotly is not installed")
    return Path(spec.origin).parent / "package_data" / PLOTLY

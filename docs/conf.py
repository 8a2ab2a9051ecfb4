"""The documentation as a site: `make docs`. Its pages are the Markdown files as they are, so that
their links work in the repository and on the site alike; the source folder is the checkout."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md"]

project = "prunegrid"
author = "prunegrid contributors"
copyright = author
version = release = version_of("prunegrid")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = PAGES
# Sphinx walks the whole source folder: keep it out of stores and virtual environments.
exclude_patterns = ["docs/_build"]
exclude_patterns += [path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"]

nitpicky = True
myst_heading_anchors = 4  # as the repository's host makes them
myst_url_schemes = ["http", "https", "mailto"]

# The reference of `import prunegrid`. In its docstrings `x` is code, as in the pages.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
#: Types that no page describes: other libraries', and inner ones of ours.
nitpick_ignore_regex = [("py:class", r"(?!prunegrid\.[A-Za-z]+$).*")]

html_theme = "furo"
html_title = f"prunegrid {release}"
html_copy_source = False
html_show_sphinx = False


def _first_page(app: Sphinx, error: Exception | None) -> None:
    """The site's own address leads to its first page, whose folder is docs/."""
    if error is None and app.builder.format == "html":
        text = '<meta http-equiv="refresh" content="0; url=docs/index.html">'
        (Path(app.outdir) / "index.html").write_text(text)


def setup(app: Sphinx) -> None:
    app.connect("build-finished", _first_page)

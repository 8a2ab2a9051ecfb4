"""The page as a file: a browser loads no modules from a disk. Pure.

So the modules go into the page itself, as `data:` addresses of an import map, and every answer
beside them as JSON.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping

#: Of `import ... from "./x.js"`, `import "./x.js"`, `export ... from` and `import("./x.js")`.
_IMPORT = re.compile(r"""((?:\bfrom|\bimport)\s*\(?\s*)(["'])\./([\w.\-]+\.js)\2""")
_MODULE = re.compile(
    r"""<script\b(?=[^>]*\btype=["']module["'])[^>]*\bsrc=["'](?:\./)?static/([\w.\-]+\.js)["']"""
    r"""[^>]*>\s*</script>"""
)
_PRELOAD = re.compile(r"""<link\b[^>]*\brel=["']modulepreload["'][^>]*>\s*""")
_PREFIX = "prunegrid/"


def offline_page(html: str, modules: Mapping[str, str], answers: Mapping[str, object]) -> str:
    """`modules`: the text of each script by file name; `answers`: by address."""
    imports = {_PREFIX + name: _address(text) for name, text in modules.items()}
    head = (
        f'<script type="importmap">{_embedded({"imports": imports})}</script>\n'
        f'<script type="application/json" id="snapshot">{_embedded(answers)}</script>\n'
    )
    html = _PRELOAD.sub("", html)
    first = html.lower().find("<script")
    place = first if first >= 0 else len(html)
    page = html[:place] + head + html[place:]
    return _MODULE.sub(
        lambda found: f'<script type="module">import "{_PREFIX}{found[1]}";</script>', page
    )


def _address(text: str) -> str:
    """A module that imports its neighbours by name: a `data:` address has no neighbours."""
    text = _IMPORT.sub(rf"\1\2{_PREFIX}\3\2", text)
    return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"


def _embedded(value: object) -> str:
    """JSON that can't end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

"""What a browser makes of the dashboard: when it shows something, and what each view costs it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.dashboard.browser import Page, start_browser, why_none

#: What is there once a view is drawn.
VIEWS = {
    "?": ".square",
    "?each=cell": "canvas.mosaic[width]",
    "?view=curves": ".plot-curve .main-svg",
    "?view=timeline": ".plot-timeline .main-svg",
    "?view=failures": ".failure",
}
DRAWN = """
const paint = performance.getEntriesByName('first-contentful-paint')[0];
return [paint ? paint.startTime : null, performance.now()];
"""


def painted(address: str) -> dict[str, Any] | str:
    """Per view, milliseconds from asking for the page in a new tab: until the first paint, and
    until what is asked for is drawn. Why not, where there is no browser."""
    if reason := why_none():
        return reason
    out = {}
    with tempfile.TemporaryDirectory() as profile:
        driver = start_browser(Path(profile))
        try:
            for query, selector in VIEWS.items():
                driver.execute_cdp_cmd("Network.clearBrowserCache", {})
                page = Page(driver)
                driver.get(address + query)
                page.wait_for(selector)
                paint_ms, drawn_ms = page.script(DRAWN)
                out[query] = {
                    "first_paint_ms": paint_ms and round(paint_ms),
                    "drawn_ms": round(drawn_ms),
                }
                driver.get("about:blank")
        finally:
            driver.quit()
    return out

"""A real headless Chromium, and the dashboard as it sees it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from prunegrid.orchestrator.commands.dashboard import listen

PATIENCE_S = 30.0
#: The last proves that the page needs no network: no other name resolves.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


def why_none() -> str | None:
    """Why there is no browser to test with; None: there is."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        return f"needs {' and '.join(missing)} (Debian: chromium, chromium-driver)"
    return None


def start_browser(profile: Path) -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The application behind a socket of its own; its address."""
    listener: socket.socket = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join()


class Page:
    """What a person does and sees, and what the console said."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.resize()

    def open(self, address: str) -> None:
        self.driver.get(address)
        self.wait(lambda: self.find(".tile-progress") or self.find(".empty"), "the head")

    def resize(self, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def find(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def text(self, selector: str = "body") -> str:
        """Of the first that fits; "" where none does."""
        code = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return self.script(code, selector)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """What `condition` gives once it is true."""
        limit_s = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            if time.monotonic() > limit_s:
                raise AssertionError(f"waited for {what}; the page says:\n{self.text()}")
            time.sleep(0.03)
        return found

    def wait_for(self, selector: str) -> Any:
        """The first that fits."""
        return self.wait(lambda: self.find(selector), selector)[0]

    def wait_text(self, selector: str, words: str) -> str:
        self.wait(lambda: words in self.text(selector), f"{words!r} in {selector}")
        return self.text(selector)

    def click(self, selector: str, words: str = "") -> None:
        """The first that fits and says these words, where its middle is."""

        def found() -> Any:
            code = """return [...document.querySelectorAll(arguments[0])]
                .find((one) => (one.innerText + one.ariaLabel).includes(arguments[1]))"""
            return self.script(code, selector, words)

        self.wait(found, f"{words!r} among {selector}").click()

    def settle(self) -> None:
        """Until what is asked for has come."""
        loading = "return /Loading…|Reading the store…/.test(document.body.innerText)"
        self.wait(lambda: not self.script(loading), "the answers")

    def rounds(self, number: int) -> None:
        """Until the page has asked for its numbers so many times more."""
        count = "return performance.getEntriesByName('shown').length"
        before = self.script(count)
        self.wait(lambda: self.script(count) >= before + number, f"{number} refreshes")

    def drag(self, node: Any, start: float, end: float) -> None:
        """With the mouse, from one share of a node's width to another."""
        from selenium.webdriver.common.action_chains import ActionChains

        width = node.size["width"]
        chain = ActionChains(self.driver, duration=20)
        chain.move_to_element_with_offset(node, round((start - 0.5) * width), 0).click_and_hold()
        for share in (0.3, 0.6, 1.0):
            chain.move_to_element_with_offset(
                node, round((start + share * (end - start) - 0.5) * width), 0
            )
        chain.release().perform()

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def complaints(self) -> list[str]:
        """What the console said since it was last asked."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

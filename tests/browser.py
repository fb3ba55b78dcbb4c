"""A real browser for tests: headless Chromium with a fresh profile, driven through selenium."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
MISSING = "chromium and chromedriver are not installed"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def has_browser() -> bool:
    return CHROMIUM is not None and CHROMEDRIVER is not None


@dataclass(frozen=True, slots=True)
class Browser:
    """One window. Sizes are CSS pixels of the page itself, without the window's frame."""

    driver: webdriver.Chrome

    def show(self, page: Path, width_px: int, height_px: int = 900) -> None:
        """Load a local file at a viewport size and wait until it and its pictures are there."""
        self.resize(width_px, height_px)
        self.driver.get(page.resolve().as_uri())
        self.wait_until("return document.readyState === 'complete' && [...document.images].every(i => i.complete)")

    def resize(self, width_px: int, height_px: int = 900) -> None:
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, *, dark: bool = False, media: str = "") -> None:
        """Colour scheme, and `print` as the medium."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})

    def run(self, script: str) -> Any:
        """The value of a script's `return`."""
        return self.driver.execute_script(script)

    def wait_until(self, script: str, timeout_s: float = 15.0) -> None:
        """Poll a script that returns true; `TimeoutError` after the deadline."""
        deadline = time.monotonic() + timeout_s
        while not self.run(script):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {script}")
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the console said since the last call: errors, warnings, violations of the content policy."""
        return [str(entry["message"]) for entry in self._log("browser")]

    def requested(self) -> list[str]:
        """Every address that the page asked for since the last call; data: and the browser's own pages left out."""
        found = []
        for entry in self._log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(str(message["params"]["request"]["url"]))
        return [url for url in found if not url.startswith(("data:", "chrome:"))]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.command("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))

    def print_pdf(self) -> bytes:
        """The page as it would be printed."""
        return base64.b64decode(self.command("Page.printToPDF", {"preferCSSPageSize": True})["data"])

    def command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A command of the Chrome DevTools Protocol."""
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(name, arguments)
        return answer


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser with an empty profile, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
        try:
            yield Browser(driver)
        finally:
            driver.quit()

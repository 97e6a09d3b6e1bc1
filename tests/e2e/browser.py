"""A real Chromium, driven by selenium: what it shows, what it asked for, and what it complained about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")
DEADLINE_S = 60.0


@dataclass(slots=True)
class Browser:
    """One window."""

    driver: Any
    asked: set[str] = field(default_factory=set)

    def open(self, url: str) -> None:
        """Load a page anew."""
        self.driver.get(url)
        self.script("window.wasNotReloaded = true")

    @property
    def was_not_reloaded(self) -> bool:
        """Whether the page is still the one that `open` loaded."""
        return bool(self.script("return window.wasNotReloaded === true"))

    def script(self, text: str, *arguments: Any) -> Any:
        """Run JavaScript by the debugger, which no policy of the page stops."""
        return self.driver.execute_script(text, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        """The elements now."""
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def texts(self, selector: str) -> list[str]:
        """What a person reads in the elements."""
        return [element.text for element in self.all(selector)]

    def until(self, ask: Callable[[], T], what: str) -> T:
        """Wait for a condition: the first true answer."""
        wait = WebDriverWait(
            self.driver,
            DEADLINE_S,
            poll_frequency=0.05,
            ignored_exceptions=(NoSuchElementException, StaleElementReferenceException),
        )
        return wait.until(lambda _: ask(), f"not within {DEADLINE_S:g} s: {what}\n{self.body}")

    @property
    def body(self) -> str:
        """All that is shown."""
        return "\n".join(self.texts("body"))

    def requests(self) -> set[str]:
        """The URLs asked for since the window was opened."""
        for entry in self.driver.get_log("performance"):
            found = json.loads(entry["message"])["message"]
            if found["method"] == "Network.requestWillBeSent":
                self.asked.add(found["params"]["request"]["url"])
        return self.asked

    def complaints(self) -> list[str]:
        """What the console said since the last call: errors, and what the page's policy stopped."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def chromium(width: int = 1200, height: int = 900, dark: bool = False) -> Iterator[Browser]:
    """A window without a screen; skips where the programs are not there."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs the programs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # Root in a container can have no sandbox; the pages are our own.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--mute-audio"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        scheme = "dark" if dark else "light"
        opened.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        yield Browser(opened)
    finally:
        opened.quit()

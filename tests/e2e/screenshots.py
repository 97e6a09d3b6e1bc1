"""The pictures of the README, of the stack that runs: `python -m tests.e2e.screenshots` writes docs/images.

Train something first (`./trainyard demo --keep`), so that there is something to see.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any

from tests.e2e.browser import Browser, chromium
from tests.e2e.conftest import ROOT

WIDTH = 1100
MAX_BYTES = 200_000


def main() -> int:
    """Write the pictures; exit 5 where no stack runs."""
    asked = subprocess.run(
        [sys.executable, "-m", "trainyard_submitter", "status", "--json"], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        sys.stderr.write(asked.stderr)
        return asked.returncode
    page = json.loads(asked.stdout)["services"]["submitter"]["address"]
    with urllib.request.urlopen(f"{page}/api/runs?limit=1000", timeout=10) as answer:
        runs: list[dict[str, Any]] = json.load(answer)["runs"]
    best = next((run for run in runs if run["trainer"] == "autogluon" and run["state"] == "completed"), runs[0])
    with chromium(WIDTH, 560) as browser:
        take(browser, f"{page}/", "#runs tbody tr", "runs")
    with chromium(WIDTH, 1000, dark=True) as browser:
        take(browser, f"{page}/runs/{best['run_id']}", "#timeline", "run")
    return 0


def take(browser: Browser, url: str, shown: str, name: str) -> None:
    """One picture, once what it is about is shown."""
    browser.open(url)
    browser.until(lambda: browser.all(shown) and browser.texts("#live") == ["live"], shown)
    path = ROOT / "docs" / "images" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    browser.driver.save_screenshot(str(path))
    size = path.stat().st_size
    assert size < MAX_BYTES, f"{path} has {size} bytes"


if __name__ == "__main__":
    sys.exit(main())

"""The run page in a real Chromium, before a real stack: live without a reload, true to the log, and harmless."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.browser import Browser, chromium
from tests.e2e.conftest import ROOT, Stack
from tests.unit.submitter.story import accepted, encoded
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncPublisher
from trainyard_schemas.ids import Origin, partition_of
from trainyard_schemas.topics import RUN_PARTITIONS

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(stack: Stack) -> str:
    return str(stack.status()["services"]["submitter"]["address"])


@pytest.fixture
def browser(window: Browser, page: str) -> Iterator[Browser]:
    """The window; whatever the test did in it, nothing came from elsewhere and nothing was complained about."""
    yield window
    assert {urlsplit(url).netloc for url in window.requests()} == {urlsplit(page).netloc}
    assert window.complaints() == []


def publish(stack: Stack, request: dict[str, Any], **changes: Any) -> str:
    made = {**request, **changes}
    stack.publish(json.dumps(made).encode())
    return str(made["run_name"])


def state_of(browser: Browser, name: str) -> str | None:
    """The state that the table shows of the run of this name; None where it is not in it."""
    for row in browser.all("#runs tbody tr"):
        cells = row.find_elements("css selector", "td")
        if cells[0].text == name:
            return str(cells[1].text)
    return None


def open_run(browser: Browser, name: str) -> None:
    """Click on a run, as a person does."""
    links = [link for link in browser.all("#runs tbody a") if link.text == name]
    links[0].click()
    browser.until(lambda: browser.texts("#run h2"), f"the page of {name}")


def append_accepted(stack: Stack, request: dict[str, Any], name: str) -> str:
    """Put a run of this name into the log, past intake."""
    run_id = str(uuid.uuid4())
    fact = accepted(run_id, Origin("trainyard.runs.requested", 0, 0, 0), request)
    value, headers = encoded(fact.model_copy(update={"request": fact.request | {"run_name": name}}), time.time())
    publisher = SyncPublisher(Address(stack.bootstrap))
    partition = partition_of(run_id, RUN_PARTITIONS)
    publisher.publish("trainyard.runs.lifecycle", value, headers, key=run_id.encode(), partition=partition)
    publisher.close()
    return run_id


def asks(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)


def test_a_run_appears_and_completes_without_a_reload_and_its_page_shows_what_the_log_says(
    stack: Stack, page: str, browser: Browser
) -> None:
    browser.open(page)
    browser.until(lambda: browser.texts("#live") == ["live"], "a live connection")
    request = json.loads((ROOT / "examples" / "requests" / "wine-flaml.json").read_text())
    name = publish(stack, {**request, "time_budget_s": 4})  # long enough to be seen in training
    seen = set()

    def completed() -> bool:
        seen.add(state_of(browser, name))
        return "completed" in seen

    browser.until(completed, f"{name} is completed")
    assert "started" in seen, "it was seen on its way"
    open_run(browser, name)
    end = stack.end_of(name)
    (value,) = browser.all("#value")
    assert float(value.get_attribute("data-value") or "nan") == end["results"]["value"]
    phases = ["waits for its turn", "in the queue", "training", "closing"]
    browser.until(lambda: browser.texts("#timeline tbody td:first-child") == phases, "its phases")
    last = "#events tbody tr:last-child td:last-child"
    browser.until(lambda: browser.texts(last)[:1] and browser.texts(last)[0].startswith("completed"), "its last event")
    browser.until(lambda: browser.texts("#log") != [""], "lines of the console")
    assert asks(f"{page}/api/runs/{end['run_id']}/log")["lines"] == browser.texts("#log")[0].split("\n")
    assert browser.was_not_reloaded


def test_a_leaderboard_shows_every_model_that_was_tried(stack: Stack, page: str, browser: Browser) -> None:
    request = json.loads((ROOT / "examples" / "requests" / "wine-flaml.json").read_text())
    name = publish(stack, request, run_name="page-flaml")
    end = stack.end_of(name)
    browser.open(f"{page}/runs/{end['run_id']}")
    browser.until(lambda: browser.all("#leaderboard"), "a leaderboard")
    assert len(browser.texts("#leaderboard tbody tr")) == len(end["results"]["leaderboard"])


def test_what_the_training_warned_of_is_on_its_page(
    stack: Stack, page: str, browser: Browser, wine: dict[str, Any]
) -> None:
    name = publish(stack, wine, group_key=["ash"])  # and rows are shuffled one by one
    end = stack.end_of(name)
    browser.open(f"{page}/runs/{end['run_id']}")
    browser.until(lambda: browser.texts("#warnings li"), "its warnings")
    assert browser.texts("#warnings li") == [" ".join(text.split())[:200] for text in end["results"]["warnings"]]
    assert any("row_shuffle ignores group_key" in text for text in browser.texts("#warnings li"))


def test_queues_and_workers_are_those_of_clearml(page: str, browser: Browser) -> None:
    browser.open(f"{page}/queues")
    browser.until(lambda: browser.texts("#workers tbody tr"), "a worker")
    known = [worker["name"] for worker in asks(f"{page}/api/workers")["workers"]]
    browser.until(lambda: browser.texts("#workers tbody td:first-child") == known, "the workers of the API")
    queues = {"cpu", "services", "default"}
    browser.until(lambda: queues <= set(browser.texts("#queues tbody td:first-child")), "the stack's queues")


def test_a_hostile_name_is_text(stack: Stack, page: str, browser: Browser, wine: dict[str, Any]) -> None:
    """Intake takes no such name; the page does not rely on it, and shows whatever the log holds."""
    browser.open(page)
    run_id = append_accepted(stack, wine, HOSTILE)
    browser.until(lambda: state_of(browser, HOSTILE), "the run of the hostile name")
    stack.ends(lambda data: data["run_id"] == run_id)
    open_run(browser, HOSTILE)
    browser.until(lambda: browser.texts("h1") == [HOSTILE], "the name as the title")
    assert browser.all("main img, main script") == []
    assert browser.script("return document.title") == f"{HOSTILE} - Trainyard"


def test_the_view_is_kept_in_the_address_and_fits_a_telephone(page: str, browser: Browser) -> None:
    browser.open(f"{page}/?state=completed&name=page-fl")
    browser.until(lambda: browser.texts("#runs tbody td:first-child") == ["page-flaml"], "only the run asked for")
    browser.driver.set_window_size(500, 900)
    try:
        assert browser.script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.driver.set_window_size(1200, 900)


def test_the_page_goes_on_where_the_gateway_was_started_again(
    stack: Stack, page: str, window: Browser, wine: dict[str, Any]
) -> None:
    window.open(page)
    window.until(lambda: window.texts("#live") == ["live"], "a live connection")
    with urllib.request.urlopen(f"{page}/api/runs?limit=1000", timeout=60) as answer:
        before = len(json.load(answer)["runs"])
    window.until(lambda: len(window.texts("#runs tbody tr")) == before, "all runs are shown")
    os.kill(stack.status()["services"]["submitter"]["pid"], signal.SIGTERM)
    window.until(lambda: window.texts("#live") != ["live"], "the connection is lost")
    window.until(lambda: window.texts("#live") == ["live"], "it is there again")
    name = publish(stack, wine)
    window.until(lambda: state_of(window, name) == "completed", "a run after the gateway's restart")
    window.until(lambda: len(window.texts("#runs tbody tr")) == before + 1, "the fold is the same after a restart")
    window.until(lambda: "not heard" not in window.body, "what was said of the log while it was read is taken back")
    assert window.was_not_reloaded
    window.complaints()  # that the connection was refused meanwhile
    stack.wait_until_ready("submitter")

"""The page in a real browser, over a running pipeline."""

import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from confluent_kafka import Producer
from playwright.sync_api import Page, expect

from tests.api.page.conftest import SECONDS, START_SECONDS, Open
from tests.api.page.models import MARKUP
from tests.processes import Process
from tests.service import KEY, Service

MS = SECONDS * 1000
LIVE = re.compile("^live$")


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text(LIVE, timeout=MS)


def send(page: Page, via: str) -> None:
    """Send the form by a stage, and wait until it is answered."""
    expect(page.locator("#send")).to_be_enabled(timeout=MS)
    page.evaluate("document.getElementById('answer').replaceChildren()")
    page.check(f"input[value={via}]")
    page.click("#send")
    expect(page.locator("#answer .way")).to_be_visible(timeout=MS)


def way(page: Page) -> list[str]:
    return page.locator("#answer .way li small").all_inner_texts()


def lanes(page: Page) -> dict[str, list[str]]:
    """The partitions of each worker, as the map shows them."""
    found: dict[str, list[str]] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".lane .chips")].map((chips) => [
            chips.closest(".lane").querySelector("h4").textContent,
            [...chips.querySelectorAll("b")].map((chip) => chip.textContent)]))"""
    )
    return found


def eventually(condition: Callable[[], Any], seconds: float, page: Page) -> float:
    """Wait until `condition()` is true, while the page goes on; returns the seconds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, lanes(page)
        page.wait_for_timeout(50)
    return time.monotonic() - begun


def test_the_form_is_answered_through_each_stage(open_page: Open, service: Service) -> None:
    page = open_page()
    is_live(page)
    expect(page.locator("label[for=field-0]")).to_have_text("sepal_length")
    expect(page.locator("#field-0-hint")).to_have_text("cm, 4.3 to 7.9")
    for n, value in enumerate(("5.1", "3.5", "1.4", "0.2")):
        page.fill(f"#field-{n}", value)
    parts = {
        "rest": ["BROWSER", "REST SERVICE"],
        "topic": ["BROWSER", "TASKS", "WORKER", "STORE"],
        "queue": ["BROWSER", "TASKS", "WORKER", "RESULTS"],
    }
    for via, expected in parts.items():
        send(page, via)
        assert [part.upper() for part in way(page)] == expected
        assert page.locator("#answer .label strong").inner_text() == "setosa"
        shares = page.locator("#answer .bar-share").all_inner_texts()
        assert shares == ["98.2 %", "1.8 %", "0.0 %"]
    place = page.locator("#answer .way li", has_text="partition").first.inner_text()
    assert re.search(r"partition [0-3]\noffset \d+, [\d.]+ ms until a worker had it", place)
    page.fill("#field-0", "99")
    send(page, "queue")
    assert "99" in page.locator("#answer .warnings").inner_text()
    page.get_by_role("button", name="Its whole story").click()
    expect(page.locator("#story pre")).to_have_text("[99,3.5,1.4,0.2]", timeout=MS)
    steps = page.locator("#story .story b").all_inner_texts()
    assert (steps[:2], steps[3:]) == (["created", "in tasks"], ["predicted", "in results"])


def test_markup_in_values_labels_and_dead_letters_is_text(
    open_page: Open, service: Service
) -> None:
    page = open_page()
    is_live(page)
    page.select_option("#model", index=1)
    page.fill("#field-4", MARKUP)
    page.select_option("#field-2", label="<i>card</i>")
    for via in ("rest", "queue"):
        send(page, via)
        assert page.locator("#answer .label strong").inner_text() == "<b>ham</b>"
        assert MARKUP in page.locator("#answer .warnings").inner_text()
    page.get_by_role("button", name="Its whole story").click()
    expect(page.locator("#story pre")).to_contain_text("<i>card</i>", timeout=MS)
    publish(service, f"no task {MARKUP}".encode())
    expect(page.locator("#figure-dead_letters .value.bad")).to_be_visible(timeout=MS)
    page.click("#letters-button")
    expect(page.locator("#letters tbody tr").first).to_contain_text(MARKUP, timeout=MS)
    assert page.locator("main b:has-text('ham'), main i, main img, main script").count() == 0
    assert page.title() == "petalstream"


def publish(service: Service, value: bytes) -> None:
    """Put a record into the topic of tasks."""
    port = service.pipeline.env["PETAL_EMBEDDED_PORT"]
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{port}"})
    producer.produce("tasks", value)
    assert producer.flush(20) == 0


def test_results_are_found_by_their_properties(open_page: Open) -> None:
    page = open_page()
    is_live(page)
    for via in ("queue", "topic"):
        send(page, via)
    page.fill("#f-label", "versicolor")
    page.fill("#f-model", "iris")
    page.keyboard.press("Enter")
    expect(page.locator("#results tbody tr").first).to_contain_text("versicolor", timeout=MS)
    page.fill("#f-worker", "nobody-1")
    page.get_by_role("button", name="Show results").click()
    expect(page.locator("#results")).to_have_text(
        "No stored result has these properties.", timeout=MS
    )
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#results tbody tr").first).to_be_visible(timeout=MS)
    page.fill("#task-id", "no id")
    page.get_by_role("button", name="Show its story").click()
    expect(page.locator("#story")).to_have_text("a task's id is a lower-case UUID4", timeout=MS)


def test_the_charts_show_the_load_and_are_a_table_too(open_page: Open, service: Service) -> None:
    page = open_page()
    is_live(page)
    assert page.locator("#charts canvas").count() == 3
    lines = b"".join(b'{"X":[[5.1,3.5,1.4,0.2]]}\n' for _ in range(300))
    service.call("POST", "/tasks", lines, content_type="application/jsonl")
    for name in ("tasks", "answers"):
        expect(page.locator(f"#figure-{name} .value")).not_to_have_text("0", timeout=MS)
    expect(page.locator("#figure-trip .value")).to_have_text(re.compile("ms"), timeout=MS)
    page.get_by_text("The charts as a table").click()
    expect(page.locator("#chart-table tbody tr").first).to_be_visible(timeout=MS)
    page.reload()  # the service keeps the last minutes
    is_live(page)
    page.get_by_text("The charts as a table").click()
    label = page.locator("#charts .plot").first
    expect(label).to_have_attribute("aria-label", re.compile("tasks in .*answers out"), timeout=MS)
    assert page.evaluate("document.querySelectorAll('#chart-table tbody tr').length") > 1


def test_a_killed_worker_loses_its_partitions_within_ten_seconds(
    open_page: Open, service: Service
) -> None:
    page = open_page()
    is_live(page)
    workers = [p for p in service.pipeline.processes if is_running(p, "streams.worker")]
    names = {f"{process.pid}": process for process in workers}
    eventually(lambda: sorted(map(len, lanes(page).values())) == [2, 2], SECONDS, page)
    victim = next(process for pid, process in names.items() if pid in "".join(lanes(page)))
    survivor = next(each for each in lanes(page) if not each.endswith(f"-{victim.pid}"))
    victim.send(signal.SIGKILL)
    all_four = {survivor: ["0", "1", "2", "3"]}
    assert eventually(lambda: lanes(page) == all_four, 3 * SECONDS, page) < 10
    expect(page.locator("#marks .moved").first).to_contain_text(f"rebalance: {survivor} has")
    expect(page.locator("#marks .left").first).to_contain_text(f"{victim.pid} is gone")
    service.pipeline.worker(ready=False)
    eventually(lambda: sorted(map(len, lanes(page).values())) == [2, 2], 3 * SECONDS, page)
    expect(page.locator("#marks .joined").first).to_be_visible()


def is_running(process: Process, name: str) -> bool:
    return process.exit_code is None and name.replace(".", "") in process.log.name.replace(".", "")


@pytest.mark.parametrize("path", ["/", "/docs"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Open, path: str, scheme: str) -> None:
    page = open_page(path=path, color_scheme=scheme)
    if path == "/":
        is_live(page)
        send(page, "queue")
        page.get_by_role("button", name="Its whole story").click()
        expect(page.locator("#story .story")).to_be_visible(timeout=MS)
        page.get_by_role("button", name="Show results").click()
        expect(page.locator("#results table")).to_be_visible(timeout=MS)
        for summary in page.locator("summary").all():
            summary.click()
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    nodes = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious]
    assert nodes == []


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_dark_mode_a_narrow_screen_and_calm_motion(open_page: Open) -> None:
    size = {"width": 360, "height": 740}
    light = open_page(color_scheme="light", viewport=size, reduced_motion="reduce")
    is_live(light)
    assert background(light) == "rgb(246, 247, 250)"
    send(light, "queue")
    light.get_by_role("button", name="Show results").click()
    expect(light.locator("#results table")).to_be_visible(timeout=MS)
    assert light.evaluate("document.documentElement.scrollWidth") <= 360
    assert light.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    light.emulate_media(color_scheme="dark")
    assert background(light) == "rgb(17, 21, 29)"
    docs = open_page(path="/docs", color_scheme="dark", viewport=size)
    assert background(docs) == "rgb(17, 21, 29)"
    assert docs.evaluate("document.documentElement.scrollWidth") <= 360
    docs.get_by_role("link", name="Live").click()
    is_live(docs)


def test_the_keyboard_reaches_everything_and_sends_the_form(open_page: Open) -> None:
    page = open_page()
    is_live(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.locator("input[value=rest]").focus()
    page.keyboard.press("ArrowUp")
    assert page.is_checked("input[value=queue]")
    page.keyboard.press("Enter")
    expect(page.locator("#answer .way")).to_be_visible(timeout=MS)


def test_a_key_is_asked_for_and_kept_in_memory_only(
    open_page: Open, lonely_service: Callable[..., Service]
) -> None:
    guarded = lonely_service(PETAL_API_KEYS=KEY)
    page = open_page(guarded.url, expected="401")
    expect(page.locator("#key-form")).to_be_visible(timeout=MS)
    assert page.locator("#fields input").count() == 0
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_have_text(
        "The service does not accept this key.", timeout=MS
    )
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    is_live(page)
    send(page, "rest")
    expect(page.locator("#key-form")).to_be_hidden()
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert kept == '[{},{},""]'
    assert KEY not in page.content()
    assert KEY not in page.url
    page.reload()
    expect(page.locator("#key-form")).to_be_visible(timeout=MS)


def test_without_a_broker_the_page_says_so_and_rest_goes_on(
    open_page: Open, lonely_service: Callable[..., Service]
) -> None:
    lonely = lonely_service()
    page = open_page(lonely.url, expected="503")
    is_live(page)
    expect(page.locator("#broker")).to_contain_text("start one (petal up)", timeout=MS)
    expect(page.locator("#stage-5 .state")).to_have_text("no broker: petal up")
    send(page, "rest")
    page.check("input[value=queue]")
    page.click("#send")
    expect(page.locator("#answer .bad")).to_have_text(
        "the task queue is away; nothing was accepted", timeout=MS
    )
    page.get_by_role("button", name="Show results").click()
    expect(page.locator("#results")).to_contain_text("No stored result", timeout=MS)


def test_a_lost_service_and_a_restarted_broker_heal_by_themselves(
    open_page: Open, service: Service
) -> None:
    page = open_page(expected="ERR_")
    is_live(page)
    pipeline = service.pipeline
    [api] = [p for p in pipeline.processes if p.exit_code is None and p.log.name[3:] == "api.log"]
    api.stop()
    expect(page.locator("#live")).to_have_class("stale", timeout=MS)
    expect(page.locator("#connection")).to_contain_text("older than", timeout=MS)
    pipeline.processes[0].stop()
    pipeline.start(sys.executable, "-m", "api").wait_for("Uvicorn running on", START_SECONDS)
    is_live(page)
    expect(page.locator("#broker")).to_contain_text("The task queue is not there", timeout=MS)
    pipeline.broker(START_SECONDS)
    expect(page.locator("#broker")).to_be_hidden(timeout=2 * MS)
    expect(page.locator("#marks .broker").first).to_contain_text("the broker is back")

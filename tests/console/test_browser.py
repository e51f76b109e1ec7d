"""The status page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.console import ServedConsole
from support.processes import require

pytestmark = [pytest.mark.browser]

playwright_api = pytest.importorskip("playwright.sync_api")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EVIL = "/sales/<script>alert(1)</script><img src=x onerror=alert(2)>\u202egnp.exe"


class Page:
    """A tab, and everything that it complained about."""

    def __init__(self, tab: playwright_api.Page) -> None:
        self.tab = tab
        self.complaints: list[str] = []
        tab.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        tab.on("requestfailed", lambda request: self.complaints.append(f"failed {request.url}"))
        self.asked: list[str] = []
        tab.on("request", lambda request: self.asked.append(request.url))


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright_api.Browser]:
    chromium = require("chromium")
    with playwright_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: playwright_api.Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield Page(context.new_page())
    context.close()


def test_the_login_link_shows_mounts_and_live_numbers(console: ServedConsole, page: Page) -> None:
    expect = playwright_api.expect
    page.tab.goto(console.client.login_link)
    assert page.tab.url == f"{console.url}/", "the token does not stay in the address bar"
    expect(page.tab.locator("#state")).to_have_text("live")
    expect(page.tab.locator("#mounts")).to_contain_text("s3://corp-sales/2026")
    expect(page.tab.locator("#mounts")).to_contain_text("refused the connection")
    expect(page.tab.locator("#hit-ratio")).to_have_text("75.0 %")
    expect(page.tab.locator("#tiers")).to_contain_text("cannot lock memory")
    before = page.tab.locator("#requests").inner_text()
    expect(page.tab.locator("#requests")).not_to_have_text(before)
    expect(page.tab.locator("#rate")).to_contain_text("/s")
    assert page.complaints == []
    assert all(url.startswith(console.url) or url.startswith("data:") for url in page.asked), "nothing from any other host"


def test_a_key_is_shown_as_text(console: ServedConsole, page: Page) -> None:
    console.node.slow_key = EVIL
    page.tab.goto(console.client.login_link)
    shown = page.tab.locator("#slowest td").first
    playwright_api.expect(shown).to_have_text("/sales/<script>alert(1)</script><img src=x onerror=alert(2)>\\u202egnp.exe")
    assert page.tab.locator("#slowest script, #slowest img").count() == 0
    assert page.complaints == []


def test_a_mount_is_shown_as_text_before_any_script_runs(console: ServedConsole, browser: playwright_api.Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(console.client.login_link)
    shown = tab.locator("#mounts")
    playwright_api.expect(shown).to_contain_text("s3://corp-sales/2026")
    assert shown.locator("script, img").count() == 0
    context.close()


def test_jobs_appear_while_the_page_is_open(console: ServedConsole, page: Page) -> None:
    page.tab.goto(console.client.login_link)
    playwright_api.expect(page.tab.locator("#jobs")).to_contain_text("none yet")
    console.client.load("/sales")
    playwright_api.expect(page.tab.locator("#jobs")).to_contain_text("20 of 20")
    assert page.complaints == []


def test_without_a_login_there_is_nothing_to_see(console: ServedConsole, page: Page) -> None:
    response = page.tab.goto(console.url)
    assert response is not None
    assert response.status == 401
    assert "sales" not in page.tab.content()


def test_no_other_page_may_frame_it(console: ServedConsole, page: Page) -> None:
    page.tab.goto(console.client.login_link)
    page.tab.route(
        "http://attacker.test/*",
        lambda route: route.fulfill(body=f"<iframe src='{console.url}/'></iframe>", content_type="text/html"),
    )
    page.tab.goto("http://attacker.test/")
    frame = page.tab.frames[-1]
    assert "s3://corp-sales/2026" not in frame.content()
    assert frame.url.startswith("chrome-error:")
    assert page.asked[-1] == f"{console.url}/", "it was really asked for"


def test_words_are_not_broken_on_a_narrow_screen(console: ServedConsole, page: Page) -> None:
    page.tab.set_viewport_size({"width": 420, "height": 900})
    page.tab.goto(console.client.login_link)
    health = page.tab.locator("#mounts td.good").first
    playwright_api.expect(health).to_have_text("healthy")
    heights = [health.bounding_box(), page.tab.locator("#mounts td").first.bounding_box()]
    assert all(box is not None and box["height"] < 40 for box in heights)
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 420, "tables scroll, the page does not"

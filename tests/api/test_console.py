"""The console, in a real browser: a picture is asked for, watched, looked at and kept."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from live import Stack
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from functions.domain.job import State

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
WITHIN_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium of this machine's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        words = "there is no Chromium on this machine: apt-get install chromium"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, stack: Stack, user: str) -> Iterator[Page]:
    """The console, open for this test's user; a script that fails, or a request to elsewhere, fails the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    failures: list[str] = []
    elsewhere: list[str] = []

    def watch(request: Request) -> None:
        if not request.url.startswith((stack.api_url, "blob:", "data:")):
            elsewhere.append(request.url)

    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", watch)
    page.goto(f"{stack.api_url}/#token={stack.sign(user)}")
    expect(page.get_by_role("button", name="Generate for")).to_be_visible(timeout=WITHIN_MS)
    yield page
    context.close()
    assert (failures, elsewhere) == ([], [])


def ask(page: Page, prompt: str, **fields: int) -> None:
    """Fill the form and send it."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    for label, value in {"Width": 64, "Height": 64, "Steps": 4, **fields}.items():
        page.get_by_label(label, exact=True).fill(str(value))
    page.get_by_role("button", name=re.compile("^Generate")).click()


def newest(page: Page, state: State) -> None:
    expect(page.locator(".job").first).to_have_attribute("data-state", state, timeout=WITHIN_MS)


def test_a_picture_is_asked_for_watched_looked_at_and_kept(page: Page, stack: Stack, user: str) -> None:
    stack.behave(step_ms=60)
    ask(page, "a heron at dawn <b>& mist</b>", Images=2, Steps=30)
    job = page.locator(".job").first
    expect(job.get_by_role("heading")).to_have_text("a heron at dawn <b>& mist</b>")
    expect(job.get_by_text(re.compile(r"step \d+ of 30"))).to_be_visible(timeout=WITHIN_MS)
    expect(job.get_by_text(re.compile(r"^\d+ %$"))).to_be_visible()
    newest(page, State.AWAITING_REVIEW)
    expect(page.locator("#balance")).to_have_text("98")

    job.get_by_role("button", name="View the picture").first.click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer).to_be_visible()
    expect(viewer.locator("img")).to_have_attribute("src", re.compile("^blob:"))
    viewer.get_by_role("button", name="Close").click()

    expect(job.get_by_label("Collection")).to_have_value("my-collection")
    job.get_by_label("Collection").fill("herons")
    job.locator("figure").nth(0).get_by_role("button", name="Accept").click()
    expect(job.get_by_text("In herons")).to_be_visible()
    job.locator("figure").nth(1).get_by_role("button", name="Discard").click()
    newest(page, State.COMPLETED)
    expect(job.get_by_text("Discarded", exact=True)).to_be_visible()

    job.get_by_text("Story").click()
    expect(job.locator(".story li")).to_have_count(7)


def test_what_is_wrong_is_said_at_its_field(page: Page) -> None:
    ask(page, "", Steps=900)
    prompt = page.get_by_label("Prompt", exact=True)
    expect(prompt).to_have_attribute("aria-invalid", "true")
    expect(prompt).to_have_accessible_description("Must not be empty")
    expect(prompt).to_be_focused()
    expect(page.get_by_label("Steps", exact=True)).to_have_accessible_description("Must be at most 200")
    page.get_by_label("Steps", exact=True).fill("4")
    expect(page.get_by_label("Steps", exact=True)).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator(".job")).to_have_count(0)


def test_the_price_follows_the_form(page: Page) -> None:
    page.get_by_label("Size", exact=True).select_option(label="Landscape 16:9")
    expect(page.get_by_label("Width", exact=True)).to_have_value("1344")
    page.get_by_label("Images", exact=True).fill("4")
    expect(page.get_by_role("button", name="Generate for 4 credits")).to_be_visible()
    page.get_by_role("button", name="Add a LoRA").click()
    expect(page.get_by_role("button", name="Generate for 5 credits")).to_be_visible()
    expect(page.get_by_text("95 credits left after this")).to_be_visible()


def test_a_job_is_called_off_and_its_settings_used_again(page: Page, stack: Stack) -> None:
    stack.behave(step_ms=400)
    page.on("dialog", lambda dialog: dialog.accept())
    ask(page, "a boat in fog", Steps=90)
    page.locator(".job").first.get_by_role("button", name="Cancel").click()
    newest(page, State.CANCELLED)
    page.get_by_label("Prompt", exact=True).fill("something else")
    page.locator(".job").first.get_by_role("button", name="Use again").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a boat in fog")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("90")
    expect(page.get_by_label("Seed")).to_have_value(re.compile(r"^\d+$"))


def test_a_failure_is_shown_with_what_helps(page: Page, gone: str) -> None:
    page.reload()
    page.get_by_label("Model", exact=True).select_option(gone)
    ask(page, "a heron from nowhere")
    newest(page, State.FAILED)
    expect(page.get_by_text("Choose another model or workflow")).to_be_visible()
    expect(page.locator("#balance")).to_have_text("100")


def test_whoever_has_no_token_is_asked_for_one(page: Page, stack: Stack, browser: Browser) -> None:
    other = browser.new_page()
    other.goto(f"{stack.api_url}/#token=nonsense")
    expect(other.get_by_role("dialog", name="Sign in")).to_be_visible()
    other.get_by_label("Token").fill(stack.sign("ada"))
    other.get_by_role("button", name="Continue").click()
    expect(other.get_by_text("ada · curator")).to_be_visible()
    other.close()


def test_nothing_sticks_out_on_a_phone(page: Page, stack: Stack) -> None:
    ask(page, "a heron with a very long name: " + "Ardeacinerea" * 20, Images=3)
    newest(page, State.AWAITING_REVIEW)
    page.set_viewport_size({"width": 360, "height": 740})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360

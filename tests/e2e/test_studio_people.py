"""Tests of the studio's tabs People, Health and Classify, of its languages and of narrow screens."""

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from service.studio.texts import Texts
from tests.e2e.studio import (
    SIZE,
    WAIT_MS,
    api,
    browser,
    collection,
    enrol,
    expect_text,
    open_tab,
    other_photo,
    page,
    screenshot,
    select,
    upload,
)
from tests.photos import BUS, COLLINS, HOPPER
from tests.server import RunningApi

TABS = ("Search", "Register", "Verify", "Live", "People", "Health", "Classify")
__all__ = ["api", "browser", "collection", "other_photo", "page"]  # fixtures


def test_people_are_edited_merged_split_exported_and_erased(page: Page, api: RunningApi, collection: str) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    enrol(api, collection, "Grace Hopper", HOPPER)
    open_tab(page, "People")
    page.locator("#people-find").click()
    expect_text(page, "#people-table", re.compile("Eileen Collins.*Grace Hopper", re.DOTALL))
    select(page, "#people-choose", "Eileen Collins")
    expect_text(page, "#people-details", "Templates: 1.")
    page.locator("#people-label").get_by_role("textbox").fill("Colonel Collins")
    page.locator("#people-save").click()
    expect_text(page, "#people-note", "Saved.")
    expect_text(page, "#people-details", "Colonel Collins")

    page.get_by_role("button", name="Merge and split").click()
    select(page, "#people-others", "Grace Hopper")
    page.locator("#people-details").click()
    page.locator("#people-merge").click()
    expect_text(page, "#people-note", "1 templates were moved to Colonel Collins.")
    expect_text(page, "#people-details", "Templates: 2.")
    page.locator("#people-templates").get_by_role("checkbox").nth(1).check()
    page.locator("#people-split-name").get_by_role("textbox").fill("Rear Admiral Hopper")
    page.locator("#people-split").click()
    expect_text(page, "#people-note", "Rear Admiral Hopper has 1 templates.")
    screenshot(page, "people")

    page.get_by_role("button", name="Export and erase").click()
    page.locator("#people-export").click()
    link = page.get_by_role("link", name="Save export.json")
    expect(link).to_be_visible()
    with page.expect_download() as download:
        link.click()
    assert '"label": "Colonel Collins"' in Path(download.value.path()).read_text()
    page.locator("#people-erase").click()
    expect(page.get_by_text("Type exactly: Colonel Collins")).to_be_visible()
    page.locator("#people-confirm").get_by_role("textbox").fill("Colonel Collins")
    page.locator("#people-erase").click()
    expect_text(page, "#people-note", re.compile("Colonel Collins was erased.*audit trail, MAC", re.DOTALL))
    expect(page.get_by_role("link", name="Save receipt.json")).to_be_visible()
    [left] = api.client.get("/identities", params={"collection": collection}).json()["identities"]
    assert left["label"] == "Rear Admiral Hopper"


def test_health_shows_the_calibration_and_the_effect_of_each_rate(page: Page, api: RunningApi, collection: str) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    open_tab(page, "Health")
    expect_text(page, "#health-state", re.compile("State.*ready.*People.*1", re.DOTALL))
    expect_text(page, "#health-rates", re.compile(r"0\.001.*0\.374", re.DOTALL))
    expect(page.locator("#health-curve img")).to_be_visible()
    expect_text(page, "#health-jobs", "No jobs.")
    screenshot(page, "health")


def test_the_gallery_report_lists_a_person_who_is_enrolled_twice(
    page: Page, api: RunningApi, collection: str, other_photo: Path
) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    enrol(api, collection, "E. Collins", other_photo)
    enrol(api, collection, "Grace Hopper", HOPPER)
    open_tab(page, "Health")
    page.get_by_role("button", name="Gallery report").click()
    page.locator("#report-button").click()
    expect_text(page, "#report", re.compile("3 of 3 templates of 3 people were compared", re.DOTALL))
    first = page.locator("#report tbody tr").first
    expect(first).to_contain_text("Eileen Collins")
    expect(first).to_contain_text("E. Collins")
    expect(first).to_contain_text("may be one person")
    expect(page.locator("#report")).to_contain_text("Found: 0.")
    screenshot(page, "gallery-report")


def test_a_picture_without_a_face_gives_a_message(page: Page, collection: str, tmp_path: Path) -> None:
    photo = tmp_path / "grey.png"
    Image.new("RGB", (300, 300), "grey").save(photo)
    upload(page, "#search-photo", photo)
    page.locator("#search-button").click()
    expect(page.get_by_text("no face was found")).to_be_visible(timeout=WAIT_MS)
    open_tab(page, "Classify")
    upload(page, "#classify-photo", BUS)
    page.locator("#classify-button").click()
    expect(page.get_by_text("No classifier is configured.")).to_be_visible(timeout=WAIT_MS)


def test_the_page_speaks_the_language_of_the_browser(browser: Browser, api: RunningApi) -> None:
    context = browser.new_context(viewport=SIZE, locale="de-DE")
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(str(api.client.base_url.join("/studio/")))
    expect(page.get_by_role("heading", name="Identitätsregister")).to_be_visible()
    open_tab(page, "Erfassen")
    page.locator("#register-button").click()
    expect(page.get_by_text(Texts("de")("register.no_photo"))).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", name="Identity registry")).to_be_visible()
    context.close()


UNLABELLED = """() => [...document.querySelectorAll('input, textarea, button, [role=tab]')]
  .filter(item => item.offsetParent !== null && item.type !== 'file' && item.type !== 'hidden')
  .filter(item => !(item.labels && [...item.labels].some(label => label.innerText.trim())))
  .filter(item => !['aria-label', 'aria-labelledby', 'title'].some(name => item.getAttribute(name)))
  .filter(item => !item.innerText.trim())
  .map(item => item.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("tab", TABS)
def test_a_narrow_screen_needs_no_horizontal_scrolling_and_fields_have_labels(page: Page, tab: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(1000)
    button = page.get_by_role("tab", name=tab, exact=True)
    if not button.is_visible():  # tabs that do not fit are in a menu
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown").get_by_role("button", name=tab, exact=True).click()
    else:
        button.click()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(UNLABELLED) == []

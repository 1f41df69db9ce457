"""Tests of the studio's tabs Register, Verify, Search and Live in a real browser, with real photos and a camera."""

import os
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.studio import (
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
from tests.photos import COLLINS, HOPPER, TRAINER
from tests.server import RunningApi

__all__ = ["api", "browser", "collection", "other_photo", "page"]  # fixtures


def test_photos_are_registered_with_an_outcome_each(page: Page, api: RunningApi, collection: str) -> None:
    open_tab(page, "Register")
    upload(page, "#register-photos", COLLINS, TRAINER)
    page.locator("#register-button").click()
    expect(page.get_by_text("Enter a name.")).to_be_visible(timeout=WAIT_MS)
    page.get_by_label("Name", exact=True).first.fill("Eileen Collins")
    page.locator("#register-button").click()
    expect_text(page, "#register-summary", "Eileen Collins is enrolled.")
    expect_text(page, "#register-summary", "1 of 2 photos stored")
    expect_text(page, "#register-summary", "the photo shows several faces")
    screenshot(page, "register")
    [person] = api.client.get("/identities", params={"collection": collection}).json()["identities"]
    assert (person["label"], person["template_count"]) == ("Eileen Collins", 1)


def test_look_alikes_are_shown_after_a_registration(page: Page, api: RunningApi, collection: str) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    open_tab(page, "Register")
    upload(page, "#register-photos", COLLINS)
    page.get_by_label("Name", exact=True).first.fill("<b>E.</b> Collins")
    page.locator("#register-button").click()
    expect_text(page, "#register-summary", "Similar to Eileen Collins")
    expect_text(page, "#register-summary", "<b>E.</b> Collins is enrolled.")


def test_two_photos_and_a_photo_with_a_person_are_compared(page: Page, api: RunningApi, collection: str) -> None:
    enrol(api, collection, "Grace Hopper", HOPPER)
    open_tab(page, "Verify")
    upload(page, "#verify-first", COLLINS)
    upload(page, "#verify-second", HOPPER)
    page.locator("#verify-button").click()
    expect_text(page, "#verify-result", re.compile("No match.*of 1,000 strangers, one reaches it", re.DOTALL))
    expect(page.locator("#verify-crops img")).to_have_count(2)
    screenshot(page, "verify")
    upload(page, "#verify-first", HOPPER)
    page.locator("#verify-second").get_by_label("Clear").or_(
        page.locator("#verify-second").get_by_role("button", name="Remove Image")
    ).first.click()
    select(page, "#verify-person", "Grace Hopper")
    page.locator("#verify-button").click()
    expect_text(page, "#verify-result", re.compile(r"Match · Grace Hopper", re.DOTALL))


def test_all_people_of_a_photo_are_searched_and_enrolled(page: Page, api: RunningApi, collection: str) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    upload(page, "#search-photo", TRAINER)
    page.locator("#search-button").click()
    expect_text(page, "#search-candidates", re.compile("Eileen Collins.*No match", re.DOTALL))
    expect_text(page, "#search-meaning", "Threshold 0.374")

    page.locator("#search-name").get_by_role("textbox").fill("Carlo")
    page.locator("#search-enrol").click()
    expect_text(page, "#search-note", "Carlo is enrolled.")
    expect_text(page, "#search-candidates", re.compile(r"Carlo.*1\.000.*Match", re.DOTALL))
    select(page, "#search-face", "quality too low")
    page.locator("#search-name").get_by_role("textbox").fill("Zinedine")
    page.locator("#search-enrol").click()
    expect(page.get_by_text("the quality is too low")).to_be_visible(timeout=WAIT_MS)
    page.locator("#search-force").get_by_role("checkbox").check()
    page.locator("#search-enrol").click()
    expect_text(page, "#search-note", "Zinedine is enrolled.")
    expect(page.locator("#search-candidate").locator("input").first).to_have_value(re.compile("Zinedine"))

    people = api.client.get("/identities", params={"collection": collection}).json()["identities"]
    assert [person["label"] for person in people] == ["Eileen Collins", "Carlo", "Zinedine"]


def test_candidates_have_pictures_where_the_collection_stores_them(
    page: Page, api: RunningApi, collection: str, other_photo: Path
) -> None:
    api.client.patch(f"/collections/{collection}", json={"store_crops": True}).raise_for_status()
    for name, photo in (("Eileen Collins", other_photo), ("Grace Hopper", HOPPER)):
        enrol(api, collection, name, photo)
    upload(page, "#search-photo", COLLINS)
    page.locator("#search-button").click()
    expect(page.locator("#search-candidates img")).to_have_count(2, timeout=WAIT_MS)
    screenshot(page, "search")
    open_tab(page, "People")
    select(page, "#people-choose", "Grace Hopper")
    expect(page.locator("#people-details img")).to_have_count(1, timeout=WAIT_MS)


def test_a_wrong_match_is_corrected(page: Page, api: RunningApi, collection: str, other_photo: Path) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    upload(page, "#search-photo", other_photo)
    page.locator("#search-button").click()
    expect_text(page, "#search-candidates", re.compile(r"Eileen Collins.*0\.37Match", re.DOTALL))
    page.locator("#search-not-this").click()
    expect_text(page, "#search-note", "this face is not Eileen Collins")
    expect_text(page, "#search-candidates", re.compile(r"Eileen Collins.*corrected", re.DOTALL))


def test_a_face_is_added_and_a_strict_rate_raises_the_threshold(
    page: Page, api: RunningApi, collection: str, other_photo: Path
) -> None:
    identity = enrol(api, collection, "Eileen Collins", COLLINS)
    upload(page, "#search-photo", other_photo)
    select(page, "#search-strictness", "in 100,000 comparisons")
    page.locator("#search-button").click()
    expect_text(page, "#search-meaning", "Threshold 0.504: of 100,000 strangers")
    page.locator("#search-add").click()
    expect_text(page, "#search-note", "The face was added to Eileen Collins.")
    found = api.client.get(f"/identities/{identity}", params={"collection": collection}).json()
    assert found["template_count"] == 2


def test_the_camera_names_people_and_unknown_faces_are_enrolled(page: Page, api: RunningApi, collection: str) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    open_tab(page, "Live")
    camera = page.locator("#live-camera")
    camera.get_by_role("button", name="Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#live-camera video')?.videoWidth > 0")  # the first frame
    camera.get_by_role("button", name="capture photo").click()
    expect_text(page, "#live-status", "Eileen Collins")
    screenshot(page, "live")
    expect_text(page, "#live-unknown", re.compile(r"Unknown faces: [1-9]"))
    page.locator("#live-name").get_by_role("textbox").fill("Grace Hopper")
    page.locator("#live-enrol").click()
    expect_text(page, "#live-note", "Grace Hopper is enrolled.")
    expect_text(page, "#live-status", "Grace Hopper")
    text = page.locator("#live-status").inner_text()
    rate = int(re.search(r"(\d+) frames per second", text).group(1))
    assert rate >= (8 if os.environ.get("MEASURE") else 1), text

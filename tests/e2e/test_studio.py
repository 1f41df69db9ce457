"""Tests of the studio in a real browser, with real photos and a camera that shows a video of them.

`SCREENSHOTS=folder` also writes the pictures of the documentation.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect

from service.studio.texts import Texts
from tests.conftest import open_folder
from tests.e2e.browser import running_browser
from tests.photos import BUS, COLLINS, HOPPER, TRAINER, b64, brighter
from tests.server import RunningApi, free_port, running_api, wait_for
from tests.video import empty, visit, write_y4m

WAIT_MS = 30_000
SCREENSHOTS = os.environ.get("SCREENSHOTS")
SIZE = {"width": 1200, "height": 900}
COLLECTIONS = {"test_candidates_have_pictures_where_the_collection_stores_them": "staff"}
"""Names that the pictures of the documentation show."""
TABS = ("Search", "Register", "Verify", "Live", "People", "Health", "Classify")


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    folder = open_folder()
    with running_api(folder, REGISTRY_STUDIO__MOUNTED="true", REGISTRY_CROPS__KEY="k" * 44) as api:
        yield api
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    frames = [visit(COLLINS, 5), empty(1.5), visit(HOPPER, 5), empty(1.5)]
    camera = write_y4m(tmp_path_factory.mktemp("camera") / "camera.y4m", frames)
    with running_browser(camera) as browser:
        yield browser


@pytest.fixture
def collection(api: RunningApi, request: pytest.FixtureRequest) -> str:
    name = COLLECTIONS.get(request.node.originalname, request.node.originalname[:50].replace("_", "-"))
    rules = {"name": name, "duplicates": "warn", "additions": "any"}
    assert api.client.post("/collections", json=rules).status_code == 201
    return name


@pytest.fixture(scope="module")
def other_photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A darker photo of the person in COLLINS."""
    path = tmp_path_factory.mktemp("photos") / "collins.jpg"
    path.write_bytes(brighter(COLLINS, 0.6))
    return path


def enrol(api: RunningApi, collection: str, name: str, photo: Path) -> str:
    person = {"external_id": name.lower().replace(" ", "-"), "label": name, "image": b64(photo.read_bytes())}
    response = api.client.post("/register", params={"collection": collection}, json=person)
    assert response.status_code == 201
    return response.json()["identity_id"]


@pytest.fixture
def page(browser: Browser, api: RunningApi, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The English page, on the collection of the test. Fails if the page loads something from another server."""
    foreign: list[str] = []

    def check(sent: Request) -> None:
        if not sent.url.startswith((str(api.client.base_url), "data:", "blob:")):
            foreign.append(sent.url)

    context = browser.new_context(viewport=SIZE, locale="en-US", permissions=["camera"])
    page = context.new_page()
    page.on("request", check)
    page.set_default_timeout(WAIT_MS)
    page.goto(str(api.client.base_url.join("/studio/")))
    if "collection" in request.fixturenames:
        choose(page, "#collection", request.getfixturevalue("collection"))
    yield page
    context.close()
    assert foreign == []


def choose(page: Page, field: str, text: str) -> None:
    """Types a value into a list that accepts any, or chooses the option with this text."""
    box = page.locator(field).locator("input").first
    box.fill(text)
    box.press("Enter")


def select(page: Page, field: str, text: str) -> None:
    page.locator(field).locator("input").first.click()
    page.get_by_role("option", name=re.compile(re.escape(text))).first.click()


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def upload(page: Page, field: str, *photos: Path) -> None:
    """Chooses files and waits until the page shows them."""
    area = page.locator(field)
    area.locator("input[type=file]").first.set_input_files([str(photo) for photo in photos])
    expect(area.locator("img").nth(len(photos) - 1)).to_be_visible(timeout=WAIT_MS)


def expect_text(page: Page, field: str, text: str | re.Pattern[str]) -> None:
    expect(page.locator(field)).to_contain_text(text, timeout=WAIT_MS)


def screenshot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.wait_for_timeout(1000)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"studio-{name}.png"), full_page=True)


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
    expect_text(page, "#search-meaning", "Threshold 0.363")

    page.locator("#search-name").get_by_role("textbox").fill("Carlo")
    page.locator("#search-enrol").click()
    expect_text(page, "#search-note", "Carlo is enrolled.")
    expect_text(page, "#search-candidates", re.compile(r"Carlo.*1\.000.*Match", re.DOTALL))
    select(page, "#search-face", "unknown")
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
    expect_text(page, "#search-candidates", re.compile(r"Eileen Collins.*0\.36Match", re.DOTALL))
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
    expect_text(page, "#search-meaning", "Threshold 0.502: of 100,000 strangers")
    page.locator("#search-add").click()
    expect_text(page, "#search-note", "The face was added to Eileen Collins.")
    found = api.client.get(f"/identities/{identity}", params={"collection": collection}).json()
    assert found["template_count"] == 2


def test_the_camera_names_people_and_unknown_faces_are_enrolled(page: Page, api: RunningApi, collection: str) -> None:
    enrol(api, collection, "Eileen Collins", COLLINS)
    open_tab(page, "Live")
    camera = page.locator("#live-camera")
    camera.get_by_role("button", name="Click to Access Webcam").click()
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
    expect_text(page, "#health-rates", re.compile(r"0\.001.*0\.363", re.DOTALL))
    expect(page.locator("#health-curve img")).to_be_visible()
    expect_text(page, "#health-jobs", "No jobs.")
    screenshot(page, "health")


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


def test_a_studio_of_its_own_asks_for_the_key_and_acts_with_its_scopes(browser: Browser, tmp_path: Path) -> None:
    folder = open_folder()
    with running_api(folder, REGISTRY_SERVER__REQUIRE_KEYS="true") as api:
        environment = os.environ | {"REGISTRY_DATA_DIR": str(folder), "REGISTRY_CONFIG": str(folder / "service.yaml")}
        command = [sys.executable, "-m", "service", "keys", "create", "--name", "studio", "--scope", "search"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        key = result.stdout.split()[-1]
        port = free_port()
        command = [sys.executable, "-m", "service", "studio", "--url", str(api.client.base_url), "--port", str(port)]
        with (tmp_path / "studio.log").open("wb") as log:
            studio = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_for(lambda: responds(port), 60)
            page = browser.new_context(viewport=SIZE, locale="en-US").new_page()
            page.set_default_timeout(WAIT_MS)
            page.goto(f"http://127.0.0.1:{port}/")
            expect_text(page, "#status", "requires a valid API key")
            page.locator("#api-key").locator("input").fill(key)
            page.locator("#api-key").locator("input").press("Enter")
            expect(page.locator("#status")).not_to_contain_text("requires")
            upload(page, "#search-photo", COLLINS)
            page.locator("#search-button").click()
            expect_text(page, "#search-candidates", "Nobody is enrolled")
            page.locator("#search-name").get_by_role("textbox").fill("Eileen Collins")
            page.locator("#search-enrol").click()
            expect(page.get_by_text(re.compile("scope"))).to_be_visible(timeout=WAIT_MS)
        finally:
            studio.terminate()
            assert studio.wait(30) in (0, -15)
        assert key not in (tmp_path / "studio.log").read_text()
    shutil.rmtree(folder)


def responds(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/en/").status_code == 200
    except httpx.TransportError:
        return False


def test_foreign_pages_cannot_use_the_studio(api: RunningApi) -> None:
    url = str(api.client.base_url.join("/studio/en/config"))
    assert httpx.get(url).status_code == 200
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(url, headers={"Origin": "https://evil.example"}).status_code == 403


def test_a_shared_key_needs_a_confirmation_on_other_addresses(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    command = [sys.executable, "-m", "service", "studio", "--host", "0.0.0.0", "--key-file", str(key)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1
    assert "--share-key" in result.stderr
    assert "secret" not in result.stderr

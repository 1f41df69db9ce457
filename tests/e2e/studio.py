"""Fixtures and functions of the tests of the studio.

`SCREENSHOTS=folder` also writes the pictures of the documentation.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.conftest import open_folder
from tests.e2e.browser import running_browser
from tests.photos import COLLINS, HOPPER, b64, brighter
from tests.server import RunningApi, running_api
from tests.video import empty, visit, write_y4m

WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)
SCREENSHOTS = os.environ.get("SCREENSHOTS")
SIZE = {"width": 1200, "height": 900}
COLLECTIONS = {"test_candidates_have_pictures_where_the_collection_stores_them": "staff"}
"""Names that the pictures of the documentation show."""


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

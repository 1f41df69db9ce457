"""Tests "Try it out" of /docs in a real browser: the forms are empty at first, and requests with files succeed."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import open_folder
from tests.e2e.browser import running_browser
from tests.photos import COLLINS, HOPPER, brighter
from tests.server import running_api

WAIT_MS = 30_000


@pytest.fixture(scope="module")
def documentation() -> Iterator[Page]:
    """The page /docs of a service whose database is empty."""
    folder = open_folder()
    with running_browser() as browser, running_api(folder) as api:
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.set_default_timeout(WAIT_MS)
        page.goto(str(api.client.base_url.join("/docs")))
        yield page
    shutil.rmtree(folder)


class Operation:
    """The part of Swagger UI that describes one operation, after a click on "Try it out"."""

    def __init__(self, page: Page, name: str, tag: str = "recognition") -> None:
        self._page = page
        self.block = page.locator(f"#operations-{tag}-{name}")
        if "is-open" not in (self.block.get_attribute("class") or ""):
            self.block.locator(".opblock-summary-control").click()
        self.block.get_by_role("button", name="Try it out").click()
        expect(self.block.get_by_role("button", name="Execute")).to_be_visible()

    @property
    def body_media_type(self) -> str:
        return self.block.locator(".body-param-content-type select").input_value()

    @property
    def filled_fields(self) -> list[str]:
        """The fields of the form that have a value: text, choices, and the first of several files."""
        controls = self.block.locator("[data-property-name]").locator("input:not([type=checkbox]), select, textarea")
        return [control.evaluate(NAME_OF) for control in controls.all() if control.input_value()]

    def choose(self, field: str, path: Path) -> None:
        self._row(field).locator("input[type=file]").set_input_files(path)

    def type(self, field: str, text: str) -> None:
        self._row(field).locator("input[type=text]").fill(text)

    def execute(self) -> tuple[int, dict]:
        """Returns the status that the page shows, and the response."""
        execute = self.block.get_by_role("button", name="Execute")
        with self._page.expect_response(lambda response: response.request.method == "POST") as received:
            execute.click()
        response = received.value
        shown = self.block.locator(".live-responses-table .response .response-col_status").first
        expect(shown).to_have_text(re.compile(rf"^{response.status}"))
        return response.status, response.json()

    def _row(self, field: str) -> Locator:
        return self.block.locator(f'[data-property-name="{field}"]')


NAME_OF = "control => control.closest('[data-property-name]').dataset.propertyName"


@pytest.fixture(scope="module")
def other_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second picture of the person in COLLINS."""
    path = tmp_path_factory.mktemp("pictures") / "collins.jpg"
    path.write_bytes(brighter(COLLINS, 0.8))
    return path


@pytest.mark.parametrize("name", ["embed", "predict"])
def test_forms_are_empty(documentation: Page, name: str) -> None:
    operation = Operation(documentation, name)
    assert (operation.body_media_type, operation.filled_fields) == ("multipart/form-data", [])


def test_the_example_of_a_json_document_is_accepted(documentation: Page) -> None:
    status, created = Operation(documentation, "create_collection", "collections").execute()
    assert (status, created["name"]) == (201, "staff")


def test_a_person_is_registered_verified_and_searched_with_files(documentation: Page, other_picture: Path) -> None:
    register = Operation(documentation, "register")
    assert (register.body_media_type, register.filled_fields) == ("multipart/form-data", [])
    register.choose("image", COLLINS)
    register.type("label", "Eileen Collins")
    status, registered = register.execute()
    assert (status, registered["label"], registered["template_count"]) == (201, "Eileen Collins", 1)

    verify = Operation(documentation, "verify")
    assert (verify.body_media_type, verify.filled_fields) == ("multipart/form-data", [])
    verify.choose("image_a", COLLINS)
    verify.choose("image_b", other_picture)
    status, verified = verify.execute()
    assert (status, verified["match"]) == (200, True)
    verify.choose("image_b", HOPPER)
    status, verified = verify.execute()
    assert (status, verified["match"]) == (200, False)

    search = Operation(documentation, "search")
    assert (search.body_media_type, search.filled_fields) == ("multipart/form-data", [])
    search.choose("image", other_picture)
    status, found = search.execute()
    [candidate] = found["results"][0]["candidates"]
    assert (status, candidate["label"], candidate["match"]) == (200, "Eileen Collins", True)

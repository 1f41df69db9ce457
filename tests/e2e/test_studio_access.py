"""Tests of who may use the studio: API keys, pages of other sites, shared keys."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect

from tests.conftest import open_folder
from tests.e2e.studio import SIZE, WAIT_MS, api, browser, choose, expect_text, open_tab, upload
from tests.photos import COLLINS, b64
from tests.server import RunningApi, create_key, free_port, running_api, wait_for

__all__ = ["api", "browser"]  # fixtures


def test_a_studio_of_its_own_asks_for_the_key_and_acts_with_its_scopes(browser: Browser, tmp_path: Path) -> None:
    folder = open_folder()
    with running_api(folder, REGISTRY_SERVER__REQUIRE_KEYS="true") as api:
        environment = os.environ | {"REGISTRY_DATA_DIR": str(folder), "REGISTRY_CONFIG": str(folder / "service.yaml")}
        key = create_key(folder, "search")
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
            person = {"external_id": "collins", "label": "Eileen Collins", "image": b64(COLLINS.read_bytes())}
            enrolling = create_key(folder, "enrol")
            api.client.post(
                "/register", json=person, headers={"authorization": f"Bearer {enrolling}"}
            ).raise_for_status()
            page.locator("#search-button").click()
            expect_text(page, "#search-candidates", "Eileen Collins")
            page.locator("#search-name").get_by_role("textbox").fill("Eileen Collins")
            page.locator("#search-enrol").click()
            expect(page.get_by_text(re.compile("scope"))).to_be_visible(timeout=WAIT_MS)
            open_tab(page, "Verify")
            verifying = create_key(folder, "verify")
            page.locator("#api-key").locator("input").fill(verifying)
            upload(page, "#verify-first", COLLINS)
            choose(page, "#verify-person", "collins")
            page.locator("#verify-button").click()
            expect_text(page, "#verify-result", "Match · Eileen Collins")
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

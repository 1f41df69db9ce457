"""Test of the studio's tab Classify with a classifier of real photos."""

import re
import shutil
from pathlib import Path

from playwright.sync_api import Browser

from tests.classifier import fit
from tests.conftest import open_folder
from tests.e2e.studio import SIZE, WAIT_MS, browser, expect_text, open_tab, screenshot, upload
from tests.photos import COLLINS
from tests.server import running_api

__all__ = ["browser"]  # fixture


def test_the_most_probable_people_are_shown(browser: Browser, identity_folder: Path, tmp_path: Path) -> None:
    classifier, folder = fit(identity_folder, tmp_path), open_folder()
    settings = {"REGISTRY_STUDIO__MOUNTED": "true", "REGISTRY_CLASSIFIER__BUNDLE": str(classifier)}
    with running_api(folder, **settings) as api:
        context = browser.new_context(viewport=SIZE, locale="en-US")
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(str(api.client.base_url.join("/studio/")))
        open_tab(page, "Classify")
        upload(page, "#classify-photo", COLLINS)
        page.locator("#classify-button").click()
        expect_text(page, "#classify-guesses", re.compile(r"collins.*\d+%.*hopper.*\d+%", re.DOTALL))
        screenshot(page, "classify")
        context.close()
    shutil.rmtree(folder)

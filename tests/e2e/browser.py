"""Starts an installed browser."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.optional_tools import unavailable

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Connections of the browser itself fail in a closed network, many at a time.
FLAGS = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")


@contextlib.contextmanager
def running_browser(camera: Path | None = None) -> Iterator[Browser]:
    """Yields a browser. Skips the test if none is installed.

    Args:
        camera: YUV4MPEG2 file that the browser's camera shows again and again.
    """
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        unavailable("no browser is installed: bash tools/test_programs.sh")
    flags = [*FLAGS]
    if camera is not None:
        flags += [
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
        ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()

"""The README is short, its commands run unchanged, and its links and make targets exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.photos import COLLINS, HOPPER
from tests.server import running_api

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAX_LINES = 130


def block(language: str, containing: str) -> str:
    """Returns the first code block of the language that contains the text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_commands_run_unchanged(data_folder: Path, tmp_path: Path) -> None:
    for name, path in (("ada.jpg", COLLINS), ("someone.jpg", HOPPER)):
        shutil.copy(path, tmp_path / name)
    with running_api(data_folder) as api:
        url = str(api.client.base_url).rstrip("/")
        curl = block("bash", "curl").replace("http://127.0.0.1:8000", url)
        shell = subprocess.run(["bash", "-euc", curl], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert shell.stdout.count('"status":"accepted"') == 1
        assert '"match":false' in shell.stdout
        assert "problem" not in shell.stdout
        python = block("python", "identity_registry").replace("http://127.0.0.1:8000", url)
        result = subprocess.run(
            [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert result.stdout.startswith("ada ")
        assert result.stdout.rstrip().endswith("False")
        assert api.client.get("/collections").json()["collections"][0]["identity_count"] == 0


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert f"\n{target}: " in makefile, target

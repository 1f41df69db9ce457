"""Tests of the deployments: the program of a Space runs, and the files of Space and Render fit the repository."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import open_folder
from tests.photos import COLLINS
from tests.server import free_port, wait_for

ROOT = Path(__file__).parents[2]
SPACE, RENDER = ROOT / "deploy/space", ROOT / "deploy/render"
STARTED_S = 90


@pytest.mark.parametrize("is_open", [False, True])
def test_a_space_serves_registry_and_studio(is_open: bool) -> None:
    folder, port = open_folder(), free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    environment = os.environ | {
        "HOME": str(folder),
        "REGISTRY_SERVER__PORT": str(port),
        "OPEN_TO_EVERYBODY": str(is_open),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(SPACE / "app.py")], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: process.poll() is not None or responds(f"{url}/readyz"), STARTED_S)
        text = log.read_text()
        assert process.poll() is None, text
        assert "lost when this Space restarts" in text
        page = httpx.get(url, follow_redirects=True, headers={"accept-language": "de"})
        assert (page.status_code, page.url.path) == (200, "/studio/de/")
        photo = {"image": COLLINS.read_bytes()}
        search = httpx.post(f"{url}/search", files=photo, headers={"x-forwarded-for": "192.0.2.1"})
        assert search.status_code == (200 if is_open else 401)
        if not is_open:
            key = re.search(r"API key of this start: (\S+)", text).group(1)
            search = httpx.post(f"{url}/search", files=photo, headers={"authorization": f"Bearer {key}"})
            assert search.status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)
        shutil.rmtree(folder)


def responds(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_space_has_the_files_that_its_dockerfile_copies(tmp_path: Path) -> None:
    subprocess.run(["bash", str(SPACE / "prepare.sh"), str(tmp_path)], check=True, capture_output=True)
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", (SPACE / "Dockerfile").read_text(), re.MULTILINE)
    names = " ".join(copied).split()
    assert {"source", "app.py", "requirements.txt", "build-requirements.txt"} <= set(names)
    assert [name for name in names if not (tmp_path / name).exists()] == []
    assert (tmp_path / "source/clients/python/pyproject.toml").exists()
    _, front, _ = (tmp_path / "README.md").read_text().split("---\n", 2)
    document = yaml.safe_load(front)
    assert (document["sdk"], document["app_port"]) == ("docker", 7860)
    assert not list(tmp_path.rglob("__pycache__"))


def test_the_blueprint_of_render_names_what_exists() -> None:
    document = yaml.safe_load((RENDER / "render.yaml").read_text())
    databases = {database["name"] for database in document["databases"]}
    [web] = document["services"]
    variables = {item["key"]: item for item in web["envVars"]}
    assert variables["DATABASE_URL"]["fromDatabase"]["name"] in databases
    assert web["dockerCommand"].split()[-1] == "deploy/render/start.sh"
    dockerfile = (ROOT / "Dockerfile").read_text()
    last = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert " AS studio" in last
    assert "COPY deploy/render /app/deploy/render" in last
    assert "!deploy/render" in (ROOT / ".dockerignore").read_text().splitlines()
    subprocess.run(["sh", "-n", str(RENDER / "start.sh")], check=True)
    for name, item in variables.items():
        assert {"value", "generateValue", "fromDatabase"} & set(item), name

"""CompreFace's JavaScript SDK, from the npm registry, uses the registry in place of CompreFace."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.optional_tools import unavailable
from tests.photos import COLLINS, HOPPER, encoded, pixels
from tests.server import create_key, running_api

PROJECT = Path(__file__).parent / "compreface"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The program with its packages and photos."""
    if shutil.which("npm") is None:
        unavailable("npm is not installed")
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True)
    install = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True)
    if installed.returncode != 0:
        unavailable(f"npm cannot install CompreFace's SDK: {installed.stderr}")
    for name, photo in (
        ("ada", pixels(COLLINS)),
        ("grace", pixels(HOPPER)),
        ("nothing", np.zeros((64, 64, 3), np.uint8)),
    ):
        (tmp_path / f"{name}.png").write_bytes(encoded(photo, "PNG"))
    return tmp_path


def answers_of(project: Path, *arguments: str) -> dict[str, Any]:
    command = ["node", "program.mjs", *arguments, "./ada.png", "./grace.png"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_javascript_sdk_works_unchanged(data_folder: Path, project: Path) -> None:
    environment = {"REGISTRY_SERVER__REQUIRE_KEYS": "true", "REGISTRY_SERVER__COMPREFACE_API": "true"}
    with running_api(data_folder, **environment) as api:
        key = create_key(data_folder, "enrol", "manage", "search", "verify")
        answers = answers_of(project, "http://127.0.0.1", str(api.client.base_url.port), key)
    ada, grace = answers["added"]["image_id"], answers["second"]["image_id"]
    assert answers["faces"]["faces"] == [{"image_id": ada, "subject": "ada"}, {"image_id": grace, "subject": "grace"}]
    assert answers["subjects"] == {"subjects": ["ada", "grace"]}
    [face] = answers["recognised"]["result"]
    assert [item["subject"] for item in face["subjects"]] == ["ada", "grace"]
    assert face["subjects"][0]["similarity"] > 0.999 > face["subjects"][1]["similarity"]
    assert answers["same"]["result"][0]["similarity"] > 0.999 > answers["other"]["result"][0]["similarity"]
    assert answers["pair"]["result"][0]["face_matches"][0]["similarity"] < 0.999
    assert (answers["renamed"], answers["created"]) == ({"updated": True}, {"subject": "nobody"})
    assert answers["deleted"] == {"image_id": ada, "subject": "ada"}
    assert answers["several"] == [{"image_id": grace, "subject": "hopper"}]
    assert (answers["noSubject"], answers["left"]) == ({"subject": "nobody"}, {"deleted": 0})
    assert (answers["error"]["status"], answers["error"]["code"]) == (400, 28)

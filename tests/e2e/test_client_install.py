"""The Python client runs in a virtual environment without the service, against a running server."""

import json
import subprocess
import sys
from pathlib import Path

from tests.photos import COLLINS, HOPPER
from tests.server import running_api

CLIENT = Path(__file__).parents[2] / "clients" / "python"
NOT_INSTALLED = ["service", "trainer", "sqlalchemy", "psycopg", "cryptography", "numpy", "fastapi", "onnxruntime"]
PROGRAM = """
import asyncio, importlib.metadata, importlib.util, json, sys
from identity_registry import AsyncRegistry, Registry

url, collins, hopper, *absent = sys.argv[1:]

async def search_again():
    async with AsyncRegistry(url) as registry:
        return (await registry.search(collins, fpir=0.01)).results[0].candidates[0].label

with Registry(url) as registry:
    registry.register("collins", [collins])
    registry.register("hopper", [hopper])
    [result] = registry.search(hopper, fpir=0.01).results
    print(json.dumps({
        "labels": [identity.label for identity in registry.list_identities()],
        "first": [result.candidates[0].label, result.candidates[0].match],
        "again": asyncio.run(search_again()),
        "installed": [name for name in absent if importlib.util.find_spec(name)],
        "requirements": importlib.metadata.requires("identity-registry-client"),
    }))
"""


def test_the_client_runs_without_the_service(data_folder: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "client"], check=True)
    python = tmp_path / "client" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT], check=True)
    with running_api(data_folder) as api:
        command = [python, "-I", "-c", PROGRAM, str(api.client.base_url), COLLINS, HOPPER, *NOT_INSTALLED]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    output = json.loads(result.stdout)
    assert output["labels"] == ["collins", "hopper"]
    assert output["first"] == ["hopper", True]
    assert output["again"] == "collins"
    assert output["installed"] == []
    assert {requirement.partition(">")[0] for requirement in output["requirements"]} == {
        "httpx",
        "pydantic",
        "tenacity",
    }

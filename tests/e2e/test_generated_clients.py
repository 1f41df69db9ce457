"""Tests that clients generated from /openapi.json compile, register and search.

- TypeScript: openapi-typescript and openapi-fetch, from the npm registry.
- Python: openapi-python-client.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.gallery.access import api_keys
from service.gallery.access.scopes import Scope
from service.gallery.storage.database import Database
from tests.e2e.optional_tools import unavailable
from tests.photos import COLLINS

MAX_BYTES = 300_000
TYPESCRIPT = Path(__file__).parent / "typescript"
STRICT = ("--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
RUN_TYPESCRIPT = """
import { openAsBlob } from "node:fs";
import { registerAndSearch } from "./program.js";
const [url, collection, path] = process.argv.slice(1);
console.log(JSON.stringify(await registerAndSearch(url, collection, await openAsBlob(path))));
"""
GENERATOR_CONFIG = """
post_hooks: []
content_type_overrides: {application/zip: application/octet-stream, image/svg+xml: application/octet-stream}
"""
PYTHON_PROGRAM = '''
"""Registers a person and searches for them. `assert_type` fails for a value whose type is Any."""
import base64
import io
import sys
from pathlib import Path
from typing import assert_type
from uuid import UUID

from generated import AuthenticatedClient
from generated.api.recognition import register, search
from generated.models import RegisterForm, RegisterResponse, SearchRequest, SearchResponse
from generated.types import File

url, collection, path, key = sys.argv[1:]
picture = Path(path).read_bytes()
client = AuthenticatedClient(base_url=url, token=key)
form = RegisterForm(label="Ada", image=File(payload=io.BytesIO(picture), file_name="ada.jpg"))
registered = register.sync(client=client, collection=collection, body=form)
assert isinstance(registered, RegisterResponse), registered
assert_type(registered.identity_id, UUID)
probe = SearchRequest(image=base64.b64encode(picture).decode(), top_k=1)
found = search.sync(client=client, collection=collection, body=probe)
assert isinstance(found, SearchResponse), found
candidate = found.results[0].candidates[0]
assert_type(candidate.identity_id, UUID)
assert_type(candidate.match, bool)
assert_type(candidate.score, float)
assert candidate.identity_id == registered.identity_id
print(candidate.label)
'''


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path, client: httpx.Client) -> Path:
    """A folder with the document that the service serves."""
    (tmp_path / "openapi.json").write_bytes(client.get("/openapi.json").content)
    return tmp_path


@pytest.fixture
def api_key(postgres_url: str) -> str:
    async def create() -> str:
        database = Database(postgres_url)
        try:
            async with database.transaction() as connection:
                return await api_keys.create(connection, f"generated-{uuid.uuid4()}", [Scope.ENROL, Scope.SEARCH])
        finally:
            await database.close()

    return asyncio.run(create())


def test_the_document_is_small_and_its_parts_have_names(client: httpx.Client) -> None:
    response = client.get("/openapi.json")
    assert len(response.content) < MAX_BYTES
    document = response.json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
    for operation in operations:
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        assert [schema for body in bodies for schema in body_schemas(body) if is_anonymous(schema)] == []
    names = [name for name in document["components"]["schemas"] if not re.fullmatch(r"([A-Z][a-z]+)+", name)]
    assert names == []


def body_schemas(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [content["schema"] for content in body.get("content", {}).values() if "schema" in content]


def is_anonymous(schema: dict[str, Any]) -> bool:
    """Returns True for an object or a list without a name; text and files need none."""
    return "$ref" not in schema and schema.get("type") != "string"


def test_parameters_and_forms_contain_nothing_that_they_cannot_hold(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", [])]
    schemas = document["components"]["schemas"]
    forms = [schema for name, schema in schemas.items() if name.endswith("Form")]
    assert len(forms) == 5
    assert '"null"' not in json.dumps([parameters, forms])


def test_a_typescript_client_registers_and_searches(project: Path, client: httpx.Client, collection_name: str) -> None:
    if shutil.which("npm") is None:
        unavailable("npm is not installed")
    shutil.copytree(TYPESCRIPT, project, dirs_exist_ok=True)
    installed = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"], cwd=project, capture_output=True, text=True
    )
    if installed.returncode != 0:
        unavailable(f"npm cannot install the generator: {installed.stderr}")
    programs = project / "node_modules" / ".bin"
    output = run(programs / "openapi-typescript", "openapi.json", "--output", "api.d.ts", folder=project)
    assert "warn" not in output.lower()
    run(programs / "tsc", *STRICT, "program.ts", folder=project)
    arguments = (str(client.base_url).rstrip("/"), collection_name, COLLINS)
    output = run("node", "--input-type=module", "--eval", RUN_TYPESCRIPT, *arguments, folder=project)
    candidate = json.loads(output)
    assert (candidate["label"], candidate["match"]) == ("Ada", True)


def test_a_python_client_registers_and_searches(
    project: Path, client: httpx.Client, collection_name: str, api_key: str
) -> None:
    (project / "generator.yaml").write_text(GENERATOR_CONFIG)
    (project / "program.py").write_text(PYTHON_PROGRAM)
    generate = ("generate", "--path", "openapi.json", "--config", "generator.yaml", "--meta", "none")
    generator = Path(sys.executable).with_name("openapi-python-client")
    output = run(generator, *generate, "--output-path", "generated", folder=project)
    assert "warning" not in output.lower()
    run(sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", "program.py", folder=project)
    arguments = (str(client.base_url).rstrip("/"), collection_name, COLLINS, api_key)
    assert run(sys.executable, "program.py", *arguments, folder=project).strip() == "Ada"

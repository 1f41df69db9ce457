"""Processes that receive requests or archives of clients do not have the account that owns the tables."""

import runpy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import SecretStr

from service.runtime.settings import load_settings

REPOSITORY = Path(__file__).parents[2]
OWNER_PROCESSES = {"migrate", "admin"}


def services() -> dict[str, Any]:
    documents: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    return documents


def test_compose_gives_the_owner_to_migrations_and_administration_only() -> None:
    with_owner = {
        name
        for name, service in services().items()
        if any("owner-secrets" in str(v) for v in service.get("volumes", []))
    }
    assert with_owner == OWNER_PROCESSES | {"secrets"}  # `secrets` creates them
    assert services()["secrets"]["network_mode"] == "none"
    folders = {name: service.get("environment", {}).get("REGISTRY_SECRETS_DIR") for name, service in services().items()}
    assert {name for name, folder in folders.items() if folder == "/secrets/owner"} == OWNER_PROCESSES
    assert folders["api"] == folders["jobs"] == "/secrets/api"
    assert folders["worker"] == folders["worker-gpu"] == "/secrets/worker"


def test_administration_has_no_port_and_reaches_the_database_only() -> None:
    admin = services()["admin"]
    assert "ports" not in admin
    assert admin["networks"] == ["gallery"]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of the secrets that compose has created."""
    for name in ("supplied", "db", "api", "owner", "worker"):
        (tmp_path / name).mkdir()
    make_secrets(tmp_path, monkeypatch)
    return tmp_path


def make_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(REPOSITORY / "deploy" / "compose" / "make_secrets.py"))
    for name, value in {"STORED": folder, "SUPPLIED": folder / "supplied"}.items():
        monkeypatch.setitem(script["main"].__globals__, name, value)
    script["main"]()


def test_the_key_of_crops_is_rotated(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings read the secret files; the worker, which decodes pictures of clients, has no key of crops."""
    monkeypatch.setenv("REGISTRY_SECRETS_DIR", str(stored / "api"))
    before = load_settings().crops
    assert (before.key is not None, before.old_keys) == (True, [])
    assert before.key is not None
    (stored / "supplied" / "crops-key").write_text("n" * 32 + "\n")
    (stored / "supplied" / "crops-old-keys").write_text(before.key.get_secret_value() + "\n")
    make_secrets(stored, monkeypatch)
    after = load_settings().crops
    assert (after.key, after.old_keys) == (SecretStr("n" * 32), [before.key])
    for name in ("crops-key", "crops-old-keys"):
        (stored / "supplied" / name).unlink()
    make_secrets(stored, monkeypatch)
    assert load_settings().crops == after
    assert {file.name for file in (stored / "worker").iterdir()} == {"registry_inference__worker_token"}


def test_the_secrets_of_the_api_do_not_contain_the_password_of_the_owner(stored: Path) -> None:
    password = (stored / "db" / "password").read_text()
    readable = {file.name: file.read_text() for name in ("api", "worker") for file in (stored / name).iterdir()}
    assert len(readable) >= 4
    assert not any(password in content for content in readable.values())
    assert urlsplit(readable["registry_database__url"]).username == "registry_app"
    assert password in (stored / "owner" / "registry_database__owner_url").read_text()


def test_kubernetes_gives_the_owner_to_migrations_and_administration_only() -> None:
    with_owner = set()
    for file in (REPOSITORY / "deploy" / "kubernetes").glob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] in {"Deployment", "Job"} and "registry-owner" in str(document["spec"]):
                with_owner.add(document["metadata"]["name"])
    assert with_owner == {f"registry-{name}" for name in OWNER_PROCESSES}
    secrets = yaml.safe_load_all((REPOSITORY / "deploy" / "kubernetes" / "secrets.example.yaml").read_text())
    urls = {secret["metadata"]["name"]: secret["stringData"] for secret in secrets}
    assert set(urls["registry-owner"]) == {"registry_database__owner_url"}
    assert urlsplit(urls["registry-database"]["registry_database__url"]).username == "registry_app"


def test_the_systemd_unit_raises_the_limit_of_open_files() -> None:
    lines = (REPOSITORY / "deploy" / "systemd" / "identity-registry.service").read_text().splitlines()
    assert "LimitNOFILE=65536" in lines[lines.index("[Service]") : lines.index("[Install]")]

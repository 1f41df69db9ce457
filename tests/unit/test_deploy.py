"""What is deployed elsewhere names settings, metrics and files that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from service.runtime.settings import PREFIX, Settings
from service.telemetry import metrics

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = sorted((REPOSITORY / "deploy" / "kubernetes").glob("*.yaml"))
DEPLOYMENT = [
    REPOSITORY / "docker-compose.yml",
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
def test_dashboard_and_alerts_ask_for_figures_that_exist(name: str) -> None:
    text = (REPOSITORY / "deploy" / "monitoring" / name).read_text()
    assert json.loads(text) if name.endswith("json") else yaml.safe_load(text)
    known = {sample.name for family in metrics.REGISTRY.collect() for sample in family.samples}
    known |= {family.name for family in metrics.REGISTRY.collect()}
    families = {family.name for family in metrics.REGISTRY.collect() if family.name.startswith("registry_")}
    known |= {f"{name}{ending}" for name in families for ending in ("_bucket", "_sum", "_count", "_total")}
    asked = set(re.findall(r"\bregistry_[a-z_]+", text))
    assert len(asked) >= 4
    assert asked <= known


@pytest.mark.parametrize("file", KUBERNETES, ids=lambda file: file.name)
def test_manifests_are_what_kubernetes_expects(file: Path) -> None:
    if file.name == "kustomization.yaml":
        listed = yaml.safe_load(file.read_text())["resources"]
        assert {*listed, file.name, "secrets.example.yaml"} == {manifest.name for manifest in KUBERNETES}
        return
    for document in yaml.safe_load_all(file.read_text()):
        if document["kind"] in {"Deployment", "Job"}:
            # Kubernetes would put REGISTRY_API_PORT and the like into every pod, which are no settings.
            assert document["spec"]["template"]["spec"]["enableServiceLinks"] is False
            assert "replicas" not in document["spec"]
    command = [str(Path(sys.executable).with_name("kubernetes-validate")), "--strict", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_images_are_built_from_locks_with_hashes_and_no_index() -> None:
    for lock in (REPOSITORY / "requirements").glob("*.lock"):
        lines = [line for line in lock.read_text().splitlines() if line and not line.startswith((" ", "#"))]
        assert all("==" in line for line in lines), lock.name
        assert lock.read_text().count("--hash=sha256:") >= len(lines)
        assert "://" not in lock.read_text()
        assert not re.search(r"^(torch|torchvision)==", lock.read_text(), re.MULTILINE)
    chosen = (REPOSITORY / "requirements" / "torch.txt").read_text().split()
    assert [line.split("==")[0] for line in chosen] == ["torch", "torchvision"]
    assert set(chosen) <= set((REPOSITORY / "requirements.lock").read_text().split())

"""Sources, defaults and validation of the settings."""

import re
from pathlib import Path

import pytest

from service.errors import StartupError
from service.runtime.settings import BUNDLES, Settings, load_settings


def test_defaults_are_private_and_embedded() -> None:
    settings = load_settings()
    assert settings.server.on_loopback
    assert settings.database.url is None
    assert settings.migrates_on_start
    assert settings.inference.precision == "f32"


def test_environment_variables_override_the_file_and_the_file_overrides_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("server: {port: 9000}\nrecognition: {fmr: 0.01}\n")
    monkeypatch.setenv("REGISTRY_CONFIG", str(file))
    monkeypatch.setenv("REGISTRY_SERVER__PORT", "9001")
    settings = load_settings()
    assert (settings.server.port, settings.recognition.fmr) == (9001, 0.01)


def test_hosts_are_compared_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_CLASSIFIER__ALLOWED_URL_HOSTS", '["Photos.Example.com", " 10.0.0.5:8080"]')
    assert load_settings().classifier.allowed_url_hosts == ["photos.example.com", "10.0.0.5:8080"]


def test_the_url_is_read_from_a_secret_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry_database__url").write_text("postgresql+psycopg://u:hidden@db/x")
    monkeypatch.setenv("REGISTRY_SECRETS_DIR", str(tmp_path))
    settings = load_settings()
    assert settings.database.url is not None
    assert "hidden" in settings.database.url.get_secret_value()
    assert "hidden" not in repr(settings)
    assert not settings.migrates_on_start


@pytest.mark.parametrize("name", ["REGISTRY_SEVER__PORT", "REGISTRY_PORT", "registry_typo"])
def test_a_misspelt_variable_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(StartupError, match="is not a setting"):
        load_settings()


def test_a_missing_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_CONFIG", "/nonexistent.yaml")
    with pytest.raises(StartupError, match="does not exist"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {prt: 1}", "server.prt is not a setting; check its spelling"),
        ("sever: {}", "sever"),
        ("sever:", "sever"),
        ("server: {port: many}", "server.port"),
        ("recognition: {fmr: 2}", "recognition.fmr"),
        ("detector: {image_size: 333}", "detector.image_size"),
        ("server: [", "is not valid YAML"),
    ],
)
def test_an_invalid_file_is_refused_with_the_name_of_the_setting(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(text)
    monkeypatch.setenv("REGISTRY_CONFIG", str(file))
    with pytest.raises(StartupError, match=message):
        load_settings()


def test_the_shipped_file_contains_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(__file__).parents[2] / "configs" / "service.yaml"
    defaults = load_settings()
    monkeypatch.setenv("REGISTRY_CONFIG", str(file))
    assert load_settings() == defaults
    sections = re.split(r"(?m)^(?=[a-z])", file.read_text())
    named = {section.split(":")[0]: set(re.findall(r"(?m)^  (?:# )?(\w+):", section)) for section in sections}
    for name in Settings.model_fields.keys() - {"data_dir"}:
        assert named[name] == set(type(getattr(defaults, name)).model_fields), name


@pytest.mark.parametrize(
    ("host", "reachable"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("example.org", True)],
)
def test_keys_are_required_on_addresses_that_other_machines_reach(host: str, reachable: bool) -> None:
    assert load_settings(server={"host": host}).server.keys_required is reachable
    if reachable:
        with pytest.raises(StartupError, match="reachable from other machines"):
            load_settings(server={"host": host, "require_keys": False})
    assert not load_settings(server={"host": host, "allow_unauthenticated": True}).server.keys_required
    assert load_settings(server={"host": host, "require_keys": True}).server.keys_required


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("http://worker:8001", ["http://worker:8001"]),
        ("http://a:1/, https://b", ["http://a:1", "https://b"]),
        ("http://[::1]:8001", ["http://[::1]:8001"]),
    ],
)
def test_worker_urls_are_separated_by_commas(url: str, urls: list[str]) -> None:
    assert load_settings(inference={"worker_url": url}).inference.urls == urls


@pytest.mark.parametrize(
    "url",
    ["worker:8001", "http://worker:abc", "http://u:p@worker", "http://worker/x", "http://a,,http://b", "ftp://a", "", "http://["],
)  # fmt: skip
def test_an_invalid_worker_url_is_refused(url: str) -> None:
    with pytest.raises(StartupError, match=r"inference\.worker_url"):
        load_settings(inference={"worker_url": url})


def test_the_error_of_an_unknown_bundle_lists_the_shipped_bundles() -> None:
    with pytest.raises(
        StartupError, match=r"nor a shipped bundle; the shipped bundles are embedder, embedder-fairface"
    ):
        load_settings(embedder={"additional_bundles": ["nope"]})
    assert load_settings(embedder={"additional_bundles": ["embedder-fairface"]}).embedder.additional_bundles == [
        BUNDLES / "embedder-fairface"
    ]

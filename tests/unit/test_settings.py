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


def test_the_environment_beats_the_file_and_the_file_the_defaults(
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


def test_a_secret_file_gives_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    ("text", "words"),
    [
        ("server: {prt: 1}", "server.prt"),
        ("sever: {}", "sever"),
        ("sever:", "sever"),
        ("server: {port: many}", "server.port"),
        ("recognition: {fmr: 2}", "recognition.fmr"),
        ("detector: {image_size: 333}", "detector.image_size"),
        ("server: [", "is not valid YAML"),
    ],
)
def test_a_wrong_file_says_where(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(text)
    monkeypatch.setenv("REGISTRY_CONFIG", str(file))
    with pytest.raises(StartupError, match=words):
        load_settings()


def test_the_shipped_file_names_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(__file__).parents[2] / "configs" / "service.yaml"
    defaults = load_settings()
    monkeypatch.setenv("REGISTRY_CONFIG", str(file))
    assert load_settings() == defaults
    sections = re.split(r"(?m)^(?=[a-z])", file.read_text())
    named = {section.split(":")[0]: set(re.findall(r"(?m)^  (?:# )?(\w+):", section)) for section in sections}
    for name in Settings.model_fields.keys() - {"data_dir"}:
        assert named[name] == set(type(getattr(defaults, name)).model_fields), name


@pytest.mark.parametrize(
    ("host", "open_"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("example.org", True)],
)
def test_beyond_loopback_keys_are_required_unless_said_otherwise(host: str, open_: bool) -> None:
    assert load_settings(server={"host": host}).server.keys_required is open_
    if open_:
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
def test_workers_are_named_by_url(url: str, urls: list[str]) -> None:
    assert load_settings(inference={"worker_url": url}).inference.urls == urls


@pytest.mark.parametrize(
    "url",
    ["worker:8001", "http://worker:abc", "http://u:p@worker", "http://worker/x", "http://a,,http://b", "ftp://a", "", "http://["],
)  # fmt: skip
def test_what_is_no_workers_url_is_told(url: str) -> None:
    with pytest.raises(StartupError, match=r"inference\.worker_url"):
        load_settings(inference={"worker_url": url})


def test_a_bundle_that_is_not_shipped_is_told() -> None:
    with pytest.raises(
        StartupError, match=r"nor a shipped bundle; the shipped bundles are embedder, embedder-fairface"
    ):
        load_settings(embedder={"additional_bundles": ["nope"]})
    assert load_settings(embedder={"additional_bundles": ["embedder-fairface"]}).embedder.additional_bundles == [
        BUNDLES / "embedder-fairface"
    ]

"""Tests of closed-set classification: `identity-trainer classifier fit`, `identity-trainer predict` and /predict."""

import base64
import contextlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from identity_registry import Registry
from identity_registry.errors import NoClassifier, UrlNotAllowed, UrlUnreachable
from service.errors import StartupError
from service.inference.bundle import read_embedder
from service.runtime.api import create_app
from service.runtime.parts import _classifier
from service.runtime.settings import Settings
from tests.classifier import fit
from tests.conftest import serving
from tests.photos import BUS, COLLINS, HOPPER, brighter
from tests.server import wait_for
from trainer.__main__ import app


@pytest.fixture(scope="session")
def classifier(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fits a classifier of two people and returns its bundle folder."""
    return fit(identity_folder, tmp_path_factory.mktemp("classifier"))


class PictureServer(http.server.BaseHTTPRequestHandler):
    """Serves a picture, a redirect to it and a file that exceeds the size limit."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/collins")
            self.end_headers()
            return
        self.send_response(200 if self.path in {"/collins", "/large"} else 404)
        self.end_headers()
        if self.path == "/collins":
            self.wfile.write(COLLINS.read_bytes())
        elif self.path == "/large":
            with contextlib.suppress(OSError):
                self.wfile.write(b"x" * 30 * 1024**2)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """Runs a PictureServer and returns its host and port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PictureServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def predicting(settings: Settings, classifier: Path, host: str) -> Iterator[Registry]:
    """A client of a service with the classifier, which may download pictures from the host."""
    changed = settings.classifier.model_copy(update={"bundle": classifier, "allowed_url_hosts": [host]})
    with (
        serving(create_app(settings.model_copy(update={"classifier": changed}))) as client,
        Registry(str(client.base_url)) as registry,
    ):
        yield registry


def test_each_person_is_classified(predicting: Registry) -> None:
    for path, name in ((COLLINS, "collins"), (HOPPER, "hopper")):
        response = predicting.predict(brighter(path, 0.7), top_k=2)
        (face,) = response.faces
        assert face.guesses[0].label == name
        assert sum(guess.probability for guess in face.guesses) == pytest.approx(1, abs=1e-4)
        assert face.guesses[0].probability > 0.6
        assert (response.classifier_id, response.people) == ("people-1", 2)
    assert len(predicting.predict(BUS, face="all", top_k=1).faces) > 1


def test_pictures_are_downloaded_from_allowed_hosts_only(predicting: Registry, host: str) -> None:
    response = predicting.predict(url=f"http://{host}/collins")
    assert response.faces[0].guesses[0].label == "collins"
    for url in (
        "http://localhost:1/collins",
        "file:///etc/passwd",
        f"http://{host}@example.org/x",
        f"http://user@{host}/collins",
        "http://[",
    ):
        with pytest.raises(UrlNotAllowed):
            predicting.predict(url=url)
    for path in ("moved", "absent"):
        with pytest.raises(UrlUnreachable):
            predicting.predict(url=f"http://{host}/{path}")
    with pytest.raises(Exception, match="the file has more than"):
        predicting.predict(url=f"http://{host}/large")


def test_predictions_are_audited(predicting: Registry) -> None:
    def count() -> int:
        return [entry.action for entry in predicting.list_audit_entries()].count("predict")

    before = count()
    predicting.predict(COLLINS)
    wait_for(lambda: count() > before, 10)  # Entries of read operations are written in batches.


def test_predict_requires_exactly_one_picture(client: httpx.Client) -> None:
    image = base64.b64encode(COLLINS.read_bytes()).decode()
    for body in ({}, {"image": image, "url": "https://example.org/a.jpg"}):
        response = client.post("/predict", json=body)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert "send `image` or `url`" in response.text


def test_predict_without_a_classifier_raises(client: httpx.Client) -> None:
    with Registry(str(client.base_url)) as registry, pytest.raises(NoClassifier):
        registry.predict(COLLINS)


def test_classifier_of_another_embedder_is_refused(settings: Settings, classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(classifier, tmp_path / "other", ignore=shutil.ignore_patterns("work"))
    manifest = json.loads((tmp_path / "other" / "classifier.json").read_text())
    (tmp_path / "other" / "classifier.json").write_text(json.dumps({**manifest, "embedder_fingerprint": "x"}))
    changed = settings.classifier.model_copy(update={"bundle": tmp_path / "other"})
    with pytest.raises(StartupError, match="which is not loaded"):
        _classifier(settings.model_copy(update={"classifier": changed}), [read_embedder(settings.embedder.bundle)])


def test_predict_command_prints_the_person(classifier: Path) -> None:
    result = CliRunner().invoke(app, ["predict", "--classifier", str(classifier), "--top-k", "1", str(COLLINS)])
    assert "collins" in result.stdout

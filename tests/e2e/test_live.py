"""Tests of `identity-registry live` with videos and a network camera that shows real photos."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import open_folder
from tests.e2e.optional_tools import unavailable
from tests.photos import COLLINS, HOPPER, b64, encoded
from tests.server import RunningApi, free_port, running_api, wait_for
from tests.video import FPS, empty, visit, write

BOUNDARY = "frame"


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    folder = open_folder()
    with running_api(folder) as api:
        yield api
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of an enrolled person, then of another one."""
    path = tmp_path_factory.mktemp("videos") / "visit.mp4"
    return write(path, [visit(COLLINS, 3), empty(2), visit(HOPPER, 3), empty(2)])


@pytest.fixture
def collection(api: RunningApi, request: pytest.FixtureRequest) -> str:
    """A collection with one person."""
    name = f"{request.node.name[:40]}".replace("_", "-")
    assert api.client.post("/collections", json={"name": name}).status_code == 201
    person = {"external_id": "collins", "label": "Eileen Collins", "image": b64(COLLINS.read_bytes())}
    assert api.client.post("/register", params={"collection": name}, json=person).status_code == 201
    return name


def command(api: RunningApi, collection: str, camera: object, *options: str) -> list[str]:
    source = ["--url", str(api.client.base_url), "--collection", collection, "--camera", str(camera)]
    return [sys.executable, "-m", "service", "live", *source, *options]


def live(api: RunningApi, collection: str, camera: object, *options: str) -> list[dict]:
    """Runs `live` to the end of a video and returns its events."""
    result = subprocess.run(
        command(api, collection, camera, *options), capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_video_gives_the_events_of_its_people(api: RunningApi, collection: str, video: Path) -> None:
    events = live(api, collection, video)
    assert [(event["event"], event["track"]) for event in events] == [
        ("appeared", 1),
        ("identified", 1),
        ("left", 1),
        ("appeared", 2),
        ("unknown", 2),
        ("left", 2),
    ]
    identified, left = events[1:3]
    assert identified["identity"]["external_id"] == "collins"
    assert identified["identity"]["score"] > 0.9
    assert identified["video_s"] < 1
    assert 2 < left["duration_s"] < 3.1
    assert left["sightings"] >= 20
    assert 5 <= events[3]["video_s"] < 5.5
    assert "identity" not in events[4]
    text = json.dumps(events)
    assert "embedding" not in text
    assert "image" not in text


def test_unknown_faces_are_enrolled_on_request(api: RunningApi, collection: str, video: Path) -> None:
    events = live(api, collection, video, "--on-unknown", "enrol", "--top-k", "2")
    [enrolled] = [event for event in events if event["event"] == "enrolled"]
    identity = api.client.get(f"/identities/{enrolled['enrolled_id']}", params={"collection": collection}).json()
    assert identity["external_id"].startswith("unknown-")
    assert identity["template_count"] == 1
    after = events[events.index(enrolled) + 1]
    assert (after["event"], after["identity"]["identity_id"]) == ("identified", enrolled["enrolled_id"])
    assert len(after["candidates"]) == 2
    again = live(api, collection, video, "--on-unknown", "enrol")
    assert [event["event"] for event in again].count("identified") == 2


def test_the_threshold_can_be_a_similarity_or_a_rate(api: RunningApi, collection: str, tmp_path: Path) -> None:
    video = write(tmp_path / "short.mp4", [visit(COLLINS, 1)])
    strict = live(api, collection, video, "--min-similarity", "0.999")
    assert not any(event["event"] == "identified" for event in strict)
    [identified] = [event for event in live(api, collection, video, "--fmr", "1e-5") if event["event"] == "identified"]
    assert identified["identity"]["threshold"] > 0.45
    both = command(api, collection, video, "--min-similarity", "0.5", "--fmr", "0.001")
    result = subprocess.run(both, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize(
    ("camera", "message"),
    [("missing.mp4", "the video file missing.mp4 cannot be read"), ("77", "the camera 77 cannot be read")],
)
def test_a_missing_camera_ends_the_program_with_a_message(api: RunningApi, camera: str, message: str) -> None:
    result = subprocess.run(command(api, "default", camera), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"identity-registry: {message}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_collection_ends_the_program_with_a_message(api: RunningApi, video: Path) -> None:
    result = subprocess.run(command(api, "nowhere", video), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "collection_not_found" in result.stderr


class NetworkCamera:
    """An HTTP camera (MJPEG). It breaks the first connection after `first_s` seconds."""

    def __init__(self, first_s: float) -> None:
        forward = [encoded(frame, quality=90) for frame in visit(COLLINS, 2)]
        frames = forward + forward[::-1]
        connections = self.connections = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                connections.append(time.monotonic())
                end = time.monotonic() + (first_s if len(connections) == 1 else 60)
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
                self.end_headers()
                number = 0
                while time.monotonic() < end:
                    data = frames[number % len(frames)]
                    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + data + b"\r\n")
                    except OSError:
                        return
                    number += 1
                    time.sleep(1 / FPS)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://camera:secret@127.0.0.1:{self.server.server_address[1]}/video"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_lost_camera_is_reached_again(api: RunningApi, collection: str, tmp_path: Path) -> None:
    camera = NetworkCamera(first_s=3)
    output = tmp_path / "events"
    with output.open("wb") as file:
        process = subprocess.Popen(command(api, collection, camera.url), stdout=file, stderr=subprocess.PIPE)

    def kinds() -> list[str]:
        return [json.loads(line)["event"] for line in output.read_text().splitlines()]

    try:
        wait_for(lambda: kinds().count("identified") == 2, 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        camera.close()
    assert process.returncode == 0, errors
    found = kinds()
    assert found[:4] == ["appeared", "identified", "left", "camera_lost"]
    assert found[4:6] == ["appeared", "identified"]
    assert found[-1] == "left"
    assert len(camera.connections) >= 2
    assert "secret" not in output.read_text() + errors.decode()


class Broker:
    """Mosquitto with a password, on a free port."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            unavailable("no MQTT broker is installed: bash tools/test_programs.sh")
        folder.chmod(0o711)
        self.port, passwords, config = free_port(), folder / "passwords", folder / "mosquitto.conf"
        subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "camera", "secret"], check=True)
        passwords.chmod(0o644)
        config.write_text(f"listener {self.port} 127.0.0.1\npassword_file {passwords}\nallow_anonymous false\n")
        self.process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
        self.url = f"mqtt://camera:secret@127.0.0.1:{self.port}"


@pytest.fixture
def broker() -> Iterator[Broker]:
    folder = open_folder()
    broker = Broker(folder)
    wait_for(lambda: accepts(broker.port), 20)
    yield broker
    broker.process.terminate()
    broker.process.wait(20)
    shutil.rmtree(folder)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_events_are_published_for_home_assistant(
    api: RunningApi, collection: str, tmp_path: Path, broker: Broker
) -> None:
    received: list[tuple[str, str, bool]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set("camera", "secret")
    client.on_message = lambda _, __, item: received.append((item.topic, item.payload.decode(), item.retain))
    client.connect("127.0.0.1", broker.port)
    client.subscribe("#", qos=1)
    client.loop_start()
    video = write(tmp_path / "short.mp4", [visit(COLLINS, 2), empty(2)])
    events = live(api, collection, video, "--mqtt", broker.url, "--mqtt-topic", "door")
    base = next(topic for topic, _, _ in received if topic.startswith("door/")).rsplit("/", 1)[0]

    def values(name: str) -> list[str]:
        return [payload for topic, payload, _ in received if topic == f"{base}/{name}"]

    wait_for(lambda: values("available")[-1] == "offline", 20)
    client.loop_stop()
    client.disconnect()
    assert [json.loads(line) for line in values("event")] == events
    assert values("people")[0] == values("people")[-1] == "[]"
    assert '["Eileen Collins"]' in values("people")
    assert (values("present")[0], values("present")[-1]) == ("OFF", "OFF")
    assert "ON" in values("present")
    assert values("available") == ["online", "offline"]
    found = {topic: json.loads(text) for topic, text, _ in received if topic.startswith("homeassistant/")}
    assert {topic.split("/")[1] for topic in found} == {"binary_sensor", "sensor"}
    for document in found.values():
        assert document["state_topic"].startswith(f"{base}/")
        assert document["availability_topic"] == f"{base}/available"
    assert "secret" not in json.dumps(received)


@pytest.mark.parametrize(
    ("url", "message"),
    [("http://localhost", "must have the form mqtt://"), ("mqtt://127.0.0.1:9", "127.0.0.1 cannot be reached")],
)
def test_a_wrong_broker_ends_the_program_with_a_message(api: RunningApi, video: Path, url: str, message: str) -> None:
    result = subprocess.run(
        command(api, "default", video, "--mqtt", url), capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 1
    assert message in result.stderr

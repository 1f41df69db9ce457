"""Tests of `identity-registry live` with videos and a network camera that shows real photos."""

import json
import shutil
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import open_folder
from tests.e2e.live import api, collection, command, live, video
from tests.photos import COLLINS, b64, encoded
from tests.server import RunningApi, create_key, running_api, wait_for
from tests.video import FPS, visit, write

__all__ = ["api", "collection", "video"]  # fixtures
BOUNDARY = "frame"


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
    camera = NetworkCamera(first_s=8)
    output = tmp_path / "events"
    with output.open("wb") as file:
        process = subprocess.Popen(command(api, collection, camera.url), stdout=file, stderr=subprocess.PIPE)

    def kinds() -> list[str]:
        return [json.loads(line)["event"] for line in output.read_text().splitlines()]

    def after_the_loss() -> list[str]:
        return kinds()[kinds().index("camera_lost") + 1 :] if "camera_lost" in kinds() else []

    try:
        wait_for(lambda: "identified" in after_the_loss(), 100)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        camera.close()
    assert process.returncode == 0, errors
    found = kinds()
    before = found[: found.index("camera_lost")]
    assert (before[0], "identified" in before) == ("appeared", True)
    # On a busy machine frames are left out, and the person can appear once more.
    assert before.count("appeared") == before.count("left")
    assert (after_the_loss()[0], found[-1]) == ("appeared", "left")
    assert len(camera.connections) >= 2
    assert "secret" not in output.read_text() + errors.decode()


def test_a_key_needs_only_the_documented_scopes(tmp_path: Path) -> None:
    folder, video = open_folder(), write(tmp_path / "short.mp4", [visit(COLLINS, 1)])
    with running_api(folder, REGISTRY_SERVER__REQUIRE_KEYS="true") as api:
        person = {"external_id": "collins", "label": "Eileen Collins", "image": b64(COLLINS.read_bytes())}
        enrolling = {"authorization": f"Bearer {create_key(folder, 'enrol')}"}
        api.client.post("/register", json=person, headers=enrolling).raise_for_status()
        key = tmp_path / "key"
        key.write_text(create_key(folder, "embeddings", "search"))
        events = live(api, "default", video, "--key-file", str(key))
        assert "identified" in [event["event"] for event in events]
        key.write_text(create_key(folder, "search"))
        refused = subprocess.run(
            command(api, "default", video, "--key-file", str(key)), capture_output=True, text=True, check=False
        )
        assert "not_allowed" in refused.stderr
        assert refused.stdout == ""
        assert key.read_text() not in refused.stderr
    shutil.rmtree(folder)

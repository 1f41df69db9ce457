"""Tests of the events that `identity-registry live` publishes with a real MQTT broker."""

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import open_folder
from tests.e2e.live import api, collection, command, live, video
from tests.e2e.optional_tools import unavailable
from tests.photos import COLLINS
from tests.server import RunningApi, free_port, wait_for
from tests.video import empty, visit, write

__all__ = ["api", "collection", "video"]  # fixtures


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
    wait_for(lambda: any(topic.endswith("/available") for topic, _, _ in received), 20)
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

"""Publishes the events of a camera over MQTT, with discovery by Home Assistant."""

import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from service.errors import StartupError
from service.live.events import Event, Kind

PORTS = {"mqtt": 1883, "mqtts": 8883}
TOPIC = "identity-registry"
DISCOVERY = "homeassistant"
KEEP_ALIVE_S = 30
MAX_WAITING = 1000
"""Events that wait for a lost broker; the newest ones beyond them are dropped."""
CLOSE_S = 5.0
ONLINE, OFFLINE = "online", "offline"


class Publisher:
    """Publishes events, the people in view, and whether the program runs.

    Topics below `<topic>/<camera>`: `event` (one JSON document per event), `present` (ON or OFF), `people` (JSON list
    of the labels in view) and `available` (`online` or `offline`, which the broker sets if the connection breaks).

    Args:
        url: `mqtt://user:password@host:1883` or `mqtts://…` for TLS.
        camera: name of the camera.
        discovery: prefix of Home Assistant's discovery topics; None: no discovery.

    Raises:
        StartupError: the URL is malformed, or the broker cannot be reached at first.
    """

    def __init__(self, url: str, camera: str, *, topic: str = TOPIC, discovery: str | None = DISCOVERY) -> None:
        self._camera_id = re.sub(r"[^A-Za-z0-9_-]+", "-", camera).strip("-") or "camera"
        self._camera, self._base, self._discovery = camera, f"{topic}/{self._camera_id}", discovery
        self._in_view: dict[int, str | None] = {}
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise StartupError("the MQTT URL must have the form mqtt://user:password@host:1883 or mqtts://host")
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"identity-registry-{self._camera_id}")
        self._client.max_queued_messages_set(MAX_WAITING)
        if parts.username is not None:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.will_set(f"{self._base}/available", OFFLINE, qos=1, retain=True)
        self._client.on_connect = self._announce
        try:
            self._client.connect(parts.hostname, parts.port or PORTS[parts.scheme], KEEP_ALIVE_S)
        except (OSError, ValueError) as error:
            raise StartupError(f"the MQTT broker {parts.hostname} cannot be reached: {error}") from error
        self._client.loop_start()

    def publish(self, event: Event) -> None:
        """Publishes an event and the people who are in view after it."""
        self._follow(event)
        self._send("event", event.line())
        self._send_people()

    def close(self) -> None:
        """Publishes that the program has ended, and disconnects."""
        self._in_view.clear()
        self._send_people()
        self._send("available", OFFLINE, retain=True).wait_for_publish(CLOSE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _follow(self, event: Event) -> None:
        if event.event is Kind.CAMERA_LOST:
            self._in_view.clear()
        elif event.track is None:
            return
        elif event.event is Kind.LEFT:
            self._in_view.pop(event.track, None)
        else:
            self._in_view[event.track] = None if event.identity is None else event.identity.label

    def _send_people(self) -> None:
        people = [label for label in self._in_view.values() if label is not None]
        self._send("present", "ON" if self._in_view else "OFF", retain=True)
        self._send("people", json.dumps(people, ensure_ascii=False), retain=True)

    def _send(self, name: str, payload: str, *, retain: bool = False) -> mqtt.MQTTMessageInfo:
        return self._client.publish(f"{self._base}/{name}", payload, qos=1, retain=retain)

    def _announce(self, *_: Any) -> None:
        """Publishes the state again after each connection, because a broker may have lost it."""
        self._send("available", ONLINE, retain=True)
        self._send_people()
        if self._discovery is None:
            return
        entities = {
            "binary_sensor": ("present", {"device_class": "occupancy"}),
            "sensor": ("people", {"value_template": "{{ value_json | join(', ') }}", "icon": "mdi:account"}),
        }
        for kind, (name, options) in entities.items():
            identifier = f"{TOPIC}-{self._camera_id}-{name}"
            document = {
                "name": name,
                "unique_id": identifier,
                "state_topic": f"{self._base}/{name}",
                "availability_topic": f"{self._base}/available",
                "device": {"identifiers": [f"{TOPIC}-{self._camera_id}"], "name": f"Camera {self._camera}"},
                **options,
            }
            topic = f"{self._discovery}/{kind}/{identifier}/config"
            self._client.publish(topic, json.dumps(document), qos=1, retain=True)

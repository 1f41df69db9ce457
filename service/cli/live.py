"""`live`: recognition of the faces of a camera."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli import client_key
from service.errors import StartupError

if TYPE_CHECKING:
    from service.live.events import Event

MQTT_VARIABLE = "MQTT_URL"
FPS = 10.0


def live(
    camera: Annotated[
        str, typer.Option(help="Number of a camera (0), rtsp:// or http:// URL, or path of a video file.")
    ] = "0",
    url: Annotated[
        str, typer.Option(help="URL of the registry, which may run on another machine.")
    ] = "http://127.0.0.1:8000",
    key_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the API key; default: $API_KEY.")
    ] = None,
    collection: Annotated[str, typer.Option(help="Collection to search.")] = "default",
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Candidates of each search.")] = 1,
    fmr: Annotated[
        float | None, typer.Option(help="False match rate of decisions; default: that of the collection.")
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(help="Instead of a rate: lowest cosine similarity that counts as a match.")
    ] = None,
    show_similarity: Annotated[bool, typer.Option(help="Show scores beside the names in the window.")] = False,
    window: Annotated[bool, typer.Option(help="Show the frames in a window; `q` quits.")] = False,
    on_unknown: Annotated[
        Literal["ignore", "enrol"], typer.Option(help="Enrol faces that match nobody as new identities, or not.")
    ] = "ignore",
    mqtt: Annotated[
        str | None,
        typer.Option(envvar=MQTT_VARIABLE, help="Publish the events: mqtt://user:password@host:1883, or mqtts://."),
    ] = None,
    mqtt_topic: Annotated[str, typer.Option(help="First part of the MQTT topics.")] = "identity-registry",
    mqtt_discovery: Annotated[
        str, typer.Option(help="Prefix of Home Assistant's discovery topics; empty: no discovery.")
    ] = "homeassistant",
    max_fps: Annotated[float, typer.Option(min=0.1, max=60, help="Frames per second that are recognised.")] = FPS,
) -> None:
    """Name the people in front of a camera. Prints one JSON line per event: appeared, identified, unknown, left.

    The registry recognises, so the device with the camera needs no model. Several frames of a face decide together.

    Examples: `identity-registry live --window`, `identity-registry live --camera rtsp://door.local/stream --fmr 1e-4`,
    `identity-registry live --camera visit.mp4 --top-k 3 | jq`.
    """
    if fmr is not None and min_similarity is not None:
        raise typer.BadParameter("--fmr and --min-similarity exclude each other")
    try:
        from identity_registry import Registry
        from service.live.camera import Camera
        from service.live.recognition import LiveRecognition, OperatingPoint
        from service.live.run import LiveOptions, run
    except ImportError as error:
        raise StartupError(f"`live` needs: pip install ./clients/python '.[live]' ({error})") from error

    source = Camera(camera, max_fps)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: source.stop())
    publishing = _report(mqtt, source.name, mqtt_topic, mqtt_discovery)
    with _reported_errors(), publishing as report, Registry(url, client_key.read(key_file)) as registry:
        point = OperatingPoint(fmr=fmr, threshold=min_similarity)
        recognition = LiveRecognition(registry, collection=collection, point=point, top_k=top_k)
        options = LiveOptions(on_unknown == "enrol", window, show_similarity)
        run(source, recognition, options, report, lambda error: typer.echo(str(error), err=True))


@contextlib.contextmanager
def _reported_errors() -> Iterator[None]:
    """Turns errors of the registry into the message of the command."""
    from identity_registry.errors import RegistryError

    try:
        yield
    except (RegistryError, ValueError) as error:
        raise StartupError(str(error)) from error
    except BrokenPipeError:  # the reader of the events has ended
        sys.stdout = None  # Python would report the pipe again at its end


@contextlib.contextmanager
def _report(url: str | None, camera: str, topic: str, discovery: str) -> Iterator[Callable[["Event"], None]]:
    """Yields the function that gets the events: it prints them, and publishes them if there is a broker."""
    if url is None:
        yield _print
        return
    try:
        from service.live.mqtt import Publisher
    except ImportError as error:
        raise StartupError(f"--mqtt needs: pip install '.[mqtt]' ({error})") from error
    with contextlib.closing(Publisher(url, camera, topic=topic, discovery=discovery or None)) as publisher:

        def report(event: "Event") -> None:
            _print(event)
            publisher.publish(event)

        yield report


def _print(event: "Event") -> None:
    typer.echo(event.line())  # which also flushes

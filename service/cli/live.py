"""`live`: recognition of the faces of a camera."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.errors import StartupError

if TYPE_CHECKING:
    from service.live.events import Event

KEY_VARIABLE = "API_KEY"
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
        from identity_registry.errors import RegistryError
        from service.live.camera import Camera
        from service.live.recognition import LiveRecognition, OperatingPoint
        from service.live.run import LiveOptions, run
    except ImportError as error:
        raise StartupError(f"`live` needs: pip install ./clients/python '.[live]' ({error})") from error

    source = Camera(camera, max_fps)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: source.stop())
    try:
        with Registry(url, _key(key_file)) as registry:
            point = OperatingPoint(fmr=fmr, threshold=min_similarity)
            recognition = LiveRecognition(registry, collection=collection, point=point, top_k=top_k)
            options = LiveOptions(on_unknown == "enrol", window, show_similarity)
            run(source, recognition, options, _print, lambda error: typer.echo(str(error), err=True))
    except (RegistryError, ValueError) as error:
        raise StartupError(str(error)) from error
    except BrokenPipeError:  # the reader of the events has ended
        sys.stdout = None  # Python would report the pipe again at its end


def _print(event: "Event") -> None:
    print(event.line(), flush=True)


def _key(file: Path | None) -> str | None:
    return os.environ.get(KEY_VARIABLE) if file is None else file.read_text().strip()

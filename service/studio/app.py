"""The application of the studio: one page for each language."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import gradio
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse

from service.studio import page
from service.studio.sessions import Clients
from service.studio.texts import DEFAULT_LANGUAGE, LANGUAGES, Texts, preferred_language
from service.studio.upload_quota import UploadQuota

CSS = """
.decision { border-left: 6px solid; padding: 4px 16px; border-radius: 4px; }
.decision.match { border-color: #16783e; } .decision.no-match { border-color: #b05400; }
.scale { position: relative; height: 14px; background: var(--neutral-200); border-radius: 7px; max-width: 480px; }
.scale i { position: absolute; inset: 0 auto 0 0; border-radius: 7px; background: #16783e; }
.no-match .scale i { background: #b05400; }
.scale b { position: absolute; top: -4px; height: 22px; width: 2px; background: var(--body-text-color); }
table.candidates { border-collapse: collapse; width: 100%; }
table.candidates th, table.candidates td { padding: 4px 8px; text-align: left; vertical-align: middle; }
table.candidates img { border-radius: 4px; }
table.candidates tr.match th { color: #16783e; }
.dark table.candidates tr.match th { color: #5fd08b; }
.faces { display: flex; flex-wrap: wrap; gap: 8px; } .faces img { border-radius: 4px; }
.faces figure { margin: 0; } .faces figcaption { font-size: 12px; text-align: center; }
#title h1 { margin: 0; } #head { align-items: end; }
"""
MAX_UPLOAD_BYTES = 25 * 1024**2
MAX_SESSIONS = 200
"""Open pages whose state is kept; the state of the oldest ones is dropped. One with a camera has up to 2 MB."""
CONCURRENCY, MAX_WAITING = 8, 64
"""Requests that run at the same time, and that wait for one of these."""


@dataclass(frozen=True)
class StudioOptions:
    """Where the registry is, and which collection and key a page starts with.

    Attributes:
        api_key: key for users who enter none. Everybody who can reach the studio then acts with it.
    """

    url: str
    collection: str = "default"
    api_key: str | None = None


def create_app(options: StudioOptions) -> FastAPI:
    """Returns the application. It sends no telemetry, and its pages load nothing from other servers.

    Raises:
        ValueError: the URL is not an HTTP URL.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    clients = Clients(options.url, options.api_key)
    clients.get(None)  # raises ValueError for a URL that is none
    # Gradio stores uploaded pictures there until they are deleted.
    uploads = tempfile.TemporaryDirectory(prefix="studio-")
    os.environ["GRADIO_TEMP_DIR"] = uploads.name

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with uploads, contextlib.closing(clients):
            yield

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    app.add_middleware(UploadQuota, folder=Path(uploads.name))

    @app.get("/")
    def choose_language(request: Request) -> RedirectResponse:
        language = preferred_language(request.headers.get("accept-language", DEFAULT_LANGUAGE))
        return RedirectResponse(f"{request.scope.get('root_path', '')}/{language}/")

    for language in LANGUAGES:
        blocks = page.build(Texts(language), clients, options.collection)
        blocks.state_session_capacity = MAX_SESSIONS
        blocks.queue(default_concurrency_limit=CONCURRENCY, max_size=MAX_WAITING)
        gradio.mount_gradio_app(
            app,
            blocks,
            f"/{language}",
            css=CSS,
            theme=_theme(),
            footer_links=[],
            run_history=False,
            max_file_size=MAX_UPLOAD_BYTES,
            show_error=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
        )
    return app


def _theme() -> gradio.themes.Base:
    """Returns a theme with fonts of the system, and with text that has a contrast of at least 4.5 (WCAG 2.2, 1.4.3)."""
    theme = gradio.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        block_info_text_color="*neutral_600",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
    )

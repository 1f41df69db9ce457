"""The page of the studio in one language."""

from collections.abc import Callable

import gradio

from identity_registry import Registry
from identity_registry.errors import RegistryError, Unauthorized
from service.studio.sessions import MAX_CHOICES, Clients
from service.studio.tabs import classify, health, live, people, register, search, verify
from service.studio.texts import LANGUAGES, Texts
from service.studio.ui import Ui, message

TABS: tuple[tuple[str, Callable[[Ui, gradio.Tab], None]], ...] = (
    ("search", search.build),
    ("register", register.build),
    ("verify", verify.build),
    ("live", live.build),
    ("people", people.build),
    ("health", health.build),
    ("classify", classify.build),
)
CACHE_S = 600
"""Uploaded pictures are deleted after ten minutes."""


def build(texts: Texts, clients: Clients, collection: str) -> gradio.Blocks:
    """Returns the page: connection, and one tab for each task."""
    with gradio.Blocks(
        title=texts("page.title"), analytics_enabled=False, fill_width=True, delete_cache=(60, CACHE_S)
    ) as page:
        links = " · ".join(
            f'<a href="../{language}/" lang="{language}">{name}</a>' for language, name in LANGUAGES.items()
        )
        with gradio.Row(elem_id="head"):
            gradio.HTML(f"<h1>{texts('page.title')}</h1><nav>{links}</nav>", elem_id="title")
            chosen = gradio.Dropdown(
                label=texts("page.collection"),
                choices=[collection],
                value=collection,
                allow_custom_value=True,
                elem_id="collection",
            )
            api_key = gradio.Textbox(
                label=texts("page.api_key"),
                info=texts("page.api_key_info"),
                type="password",
                visible=False,
                elem_id="api-key",
            )
        status = gradio.Markdown(elem_id="status")
        ui = Ui(texts, clients, chosen, api_key)
        with gradio.Tabs():
            for name, add in TABS:
                with gradio.Tab(texts(f"{name}.tab"), elem_id=f"tab-{name}") as tab:
                    add(ui, tab)

        def connect(key: str) -> tuple[object, object, str]:
            return _connect(texts, clients.get(key))

        outputs = [chosen, api_key, status]
        gradio.on(
            [page.load, api_key.submit, api_key.blur],
            connect,
            [api_key],
            outputs,
            api_visibility="private",
            show_progress="hidden",
        )
    return page


def _connect(texts: Texts, registry: Registry) -> tuple[object, object, str]:
    """Returns the collections, whether the field for an API key is needed, and what is wrong."""
    try:
        names = [found.name for found, _ in zip(registry.list_collections(), range(MAX_CHOICES), strict=False)]
    except Unauthorized as error:
        return gradio.update(), gradio.update(visible=True), f"⚠ {message(texts, error)}"
    except RegistryError as error:
        if error.status == 403:  # a key that may not list collections
            return gradio.update(), gradio.update(), ""
        return gradio.update(), gradio.update(), f"⚠ {texts('page.unreachable')} {message(texts, error)}"
    return gradio.update(choices=names), gradio.update(), ""

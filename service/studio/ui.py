"""What all tabs use: the texts, the fields that every request needs, and handlers that show errors to the user."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio

from identity_registry.errors import RegistryError
from service.studio.sessions import Clients, Session
from service.studio.texts import Texts

Component = gradio.components.Component
STATE_S = 3600
"""Time for which the state of a page is kept after its last use."""
ERROR_S = 12.0
"""Time for which an error is shown."""


@dataclass(frozen=True)
class Ui:
    """The common parts of a page.

    Attributes:
        collection, api_key: fields of the page whose values every handler gets.
    """

    texts: Texts
    clients: Clients
    collection: gradio.Dropdown
    api_key: gradio.Textbox

    def on(
        self,
        event: Callable[..., Any],
        function: Callable[..., Any],
        inputs: Sequence[Component] = (),
        outputs: Sequence[Component] = (),
        **options: Any,
    ) -> Any:
        """Calls `function(session, *inputs)` on an event, such as `button.click` or `earlier.success`.

        Shows a RegistryError and a UserError as a message.
        """

        def handle(collection: str, api_key: str, *values: Any) -> Any:
            session = Session(self.clients.get(api_key), collection or "default", self.texts)
            try:
                return function(session, *values)
            except RegistryError as error:
                raise _shown(message(self.texts, error), self.texts("page.refused")) from None
            except UserError as error:
                raise _shown(str(error), self.texts("page.check")) from None

        options.setdefault("api_visibility", "private")
        return event(handle, [self.collection, self.api_key, *inputs], list(outputs), **options)


def _shown(text: str, title: str) -> gradio.Error:
    return gradio.Error(html.escape(text), ERROR_S, title=title, print_exception=False)


class UserError(Exception):
    """The user's input needs a change; the message says which one."""


def message(texts: Texts, error: RegistryError) -> str:
    """Returns what an error means, in the user's language where the catalogue has a text for its code."""
    key = f"errors.{error.code}"
    if key in texts:
        return f"{texts(key)} ({error.detail})"
    return error.detail or error.title


def require(value: Any, text: str) -> Any:
    """Returns a value that the user must enter. Raises UserError if it is empty."""
    if value in (None, "", []):
        raise UserError(text)
    return value

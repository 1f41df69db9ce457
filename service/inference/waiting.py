"""The bounded number of pictures that an engine accepts."""

import contextlib
from collections.abc import Iterator, Sequence

from service.errors import EngineBusy
from service.inference.engine import Picture
from service.telemetry.metrics import REFUSED, WAITING


class WaitingPictures:
    """Counts the pictures that wait or are processed, those of jobs separately from those of requests.

    Args:
        max_queued: maximum number of pictures of each kind.
    """

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._count = {False: 0, True: 0}

    @contextlib.contextmanager
    def places(self, images: Sequence[Picture]) -> Iterator[None]:
        """Counts the pictures while the block runs. A single call may exceed the maximum if nothing else is waiting.

        Raises:
            EngineBusy: there is no room for all of them.
        """
        background = any(image.background for image in images)
        ahead = self._count[background]
        if ahead and ahead + len(images) > self._max_queued:
            REFUSED.inc(len(images))
            raise EngineBusy(f"{ahead} pictures are waiting in the queue; try again later")
        self._change(background, len(images))
        try:
            yield
        finally:
            self._change(background, -len(images))

    def _change(self, background: bool, count: int) -> None:
        self._count[background] += count
        WAITING.set(sum(self._count.values()))

"""Progress bars of long work: what is done, of how much, and the remaining time."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
BAR_WIDTH = 20


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items and shows how many of them are done, of how many, and the remaining time.

    Args:
        total: number of items; None: the length of `items`, or unknown.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    remaining = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(TextColumn("{task.description}"), BarColumn(BAR_WIDTH), MofNCompleteColumn(), remaining) as progress:
        yield from progress.track(items, total=total, description=description)

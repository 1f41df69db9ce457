"""Replicas of the API behind nginx divide the collections, so that each keeps the indexes of its own in memory."""

import re
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.e2e.test_proxies import nginx
from tests.e2e.test_search_consistency import PEOPLE, Gallery, origins
from tests.server import wait_for

__all__ = ["origins"]
SEARCHES = 10


def resident(origin: str) -> int:
    """Returns the number of identities in the indexes in memory of a process."""
    text = httpx.get(f"{origin}/metrics", timeout=30).text
    found = re.search(r"^registry_memory_index_identities (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


@pytest.mark.timeout(300)
def test_the_index_of_a_collection_is_in_the_memory_of_one_replica(
    origins: list[str],
    postgres_url: str,
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    replicas = [origin.removeprefix("http://") for origin in origins]
    with closing(Gallery(origins, postgres_url)) as gallery, nginx("", certificate, tmp_path, replicas) as proxy:
        direct, gallery.clients = gallery.clients, [proxy]
        probe = gallery.random(np.random.default_rng(5), 1)[0]

        def plans() -> set[str]:
            names = (gallery.name, gallery.other)
            return {gallery.search(0, probe, name)["plan"] for name in names for _ in range(SEARCHES)}

        wait_for(lambda: plans() == {"in-memory"}, 60)
        counts = [resident(origin) for origin in origins]
        gallery.clients = direct
    assert sum(counts) == 2 * PEOPLE
    assert set(counts) <= {0, PEOPLE, 2 * PEOPLE}

"""A node of a Citus cluster crashes and stays away for a while, during requests to collections of two nodes."""

import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest

from service.gallery.storage import schema
from tests.databases import CLUSTER, libpq, other_database
from tests.photos import COLLINS
from tests.server import RunningApi, running_api, wait_for
from tools import citus

pytestmark = pytest.mark.skipif(CLUSTER is None, reason="CITUS_URL does not name the coordinator of a cluster")
PORT_OF = """
    SELECT nodeport FROM pg_dist_shard_placement JOIN collection ON collection.name = %s
    WHERE shardid = get_shard_id_for_distribution_column('identity', collection.id)
"""
OUTAGE_S = 4


class Node:
    """A worker node. Its server crashes like after a power failure, and refuses connections to one database."""

    def __init__(self, url: str) -> None:
        self._database, self._url = libpq(url).rpartition("/")[2], libpq(other_database(url, "postgres"))

    def fail(self) -> None:
        self._allow("false")
        with psycopg.connect(self._url, autocommit=True) as connection, pytest.raises(psycopg.OperationalError):
            connection.execute("COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'")  # the server ends all connections

    def recover(self) -> None:
        wait_for(self._listens, 30)
        self._allow("true")

    def _listens(self) -> bool:
        try:
            psycopg.connect(self._url).close()
        except psycopg.OperationalError:
            return False
        return True

    def _allow(self, allowed: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self._database} ALLOW_CONNECTIONS {allowed}")


class Load:
    """Registers people of one collection, and searches for them, until it is stopped."""

    def __init__(self, api: RunningApi, collection: str) -> None:
        self.statuses: list[tuple[float, str, int]] = []
        self.acknowledged: set[str] = set()
        self._api, self._collection, self._stopped = api, collection, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def counts(self, since: float = 0) -> Counter[tuple[str, int]]:
        return Counter((kind, status) for at, kind, status in self.statuses if at >= since)

    def _run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            label = {"label": f"p{number}", "force": "true"}
            registered = self._send("/register", label, "images")
            if registered.status_code == 201:
                self.acknowledged.add(registered.json()["identity_id"])
            self._send("/search", {}, "image")

    def _send(self, path: str, data: dict[str, str], field: str) -> httpx.Response:
        files, scope = {field: COLLINS.read_bytes()}, {"collection": self._collection}
        response = self._api.client.post(path, params=scope, data=data, files=files)
        self.statuses.append((time.monotonic(), path, response.status_code))
        return response


@pytest.mark.timeout(300)
def test_only_the_collections_of_a_failed_node_answer_503_and_nothing_is_lost(
    empty_database: str, data_folder: Path
) -> None:
    schema.upgrade(empty_database)
    with running_api(data_folder, REGISTRY_DATABASE__URL=empty_database) as api:
        ports = _collections_by_port(api, empty_database)
        (failing, affected), (_, other) = sorted(ports.items())[:2]
        node = Node(next(url for url in citus.nodes(empty_database) if f":{failing}/" in url))
        loads = {name: Load(api, name) for name in (affected, other)}
        time.sleep(2)
        node.fail()
        time.sleep(OUTAGE_S)
        assert api.client.get("/readyz").status_code == 200
        assert api.client.get("/collections").status_code == 503  # counts the identities of all nodes
        assert api.client.post("/collections", json={"name": "new"}).status_code == 503  # every node has a copy
        node.recover()
        time.sleep(3)
        recovered = time.monotonic()
        time.sleep(3)
        for load in loads.values():
            load.stop()
        assert set(loads[other].counts()) == {("/register", 201), ("/search", 200)}
        assert {("/register", 503), ("/search", 503)} <= set(loads[affected].counts())
        assert {status for _, status in loads[affected].counts()} == {200, 201, 503}
        assert set(loads[affected].counts(recovered)) == {("/register", 201), ("/search", 200)}
        for name, load in loads.items():
            assert load.acknowledged <= _stored(api, name)


def _collections_by_port(api: RunningApi, url: str) -> dict[int, str]:
    """Creates collections until two nodes have one. Returns one of each node."""
    found: dict[int, str] = {}
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        for number in range(50):
            assert api.client.post("/collections", json={"name": f"c{number}"}).status_code == 201
            row = connection.execute(PORT_OF, [f"c{number}"]).fetchone()
            assert row is not None
            found[row[0]] = f"c{number}"
            if len(found) == 2:
                return found
    raise AssertionError("all collections are on one node")


def _stored(api: RunningApi, collection: str) -> set[str]:
    page = api.client.get("/identities", params={"collection": collection, "limit": 1000}).json()
    return {identity["id"] for identity in page["identities"]}

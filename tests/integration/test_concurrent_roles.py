"""Two registries of one server that migrate at the same moment: the service's role belongs to both."""

import threading
import time

import pytest
from sqlalchemy import Engine, NullPool, create_engine, text

from service.gallery.storage import row_security
from tests.databases import CLUSTER, new_database

STATEMENT = "ALTER ROLE registry_app CONNECTION LIMIT -1"  # the value that it has
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER ROLE%'")


@pytest.mark.skipif(CLUSTER is not None, reason="accounts of a cluster are changed on its coordinator")
def test_a_concurrent_change_of_the_role_is_waited_for(postgres_url: str) -> None:
    failures: list[BaseException] = []
    with new_database(postgres_url) as other:
        first, second = (create_engine(url, poolclass=NullPool) for url in (postgres_url, other))

        def migrate_other() -> None:
            try:
                with second.begin() as connection:
                    row_security._execute_retried(connection, STATEMENT)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=migrate_other)
        with first.begin() as connection:
            row_security._execute_retried(connection, STATEMENT)
            thread.start()
            deadline = time.monotonic() + 30
            while not is_waiting(second):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        thread.join(30)
        assert not thread.is_alive()
        assert failures == []


def is_waiting(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(WAITING).scalar())

"""Which errors of the database are outages, so that the service answers 503 and not 500."""

import pytest
from psycopg.errors import ConnectionFailure, DeadlockDetected, InternalError_, UndefinedTable
from sqlalchemy.exc import DBAPIError

from service.gallery.storage.database import _is_outage


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionFailure("connection to the remote node failed"), True),
        (DeadlockDetected("deadlock detected"), True),
        (InternalError_("failure on connection marked as essential: node-1:5432"), True),
        (InternalError_("server closed the connection unexpectedly"), True),
        (InternalError_("could not find valid entry for shard 102402"), True),
        (InternalError_("cache lookup failed for relation 1"), False),
        (UndefinedTable("could not find valid entry for shard 102402"), False),
    ],
)
def test_a_lost_node_is_an_outage_and_an_error_of_the_statement_is_not(error: Exception, expected: bool) -> None:
    assert _is_outage(DBAPIError("SELECT 1", None, error)) is expected

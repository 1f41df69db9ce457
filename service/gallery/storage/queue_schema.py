"""The tables of the job queue, Procrastinate's own, in a schema of their own.

They are made by our migrations from what the installed Procrastinate brings, and belong to it: Alembic's comparison
does not look there.
"""

from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text

SCHEMA = "procrastinate"


def install(connection: Connection) -> None:
    """Make the queue's schema, in the caller's transaction, where there is none."""
    if connection.execute(text("SELECT to_regclass('procrastinate.procrastinate_jobs')")).scalar() is not None:
        return
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    before = enter(connection)
    # Many statements at once, with percent signs in them: the driver must take them as they are.
    connection.execution_options(no_parameters=True).exec_driver_sql(SchemaManager.get_schema())
    connection.execution_options(no_parameters=False)
    leave(connection, before)


def enter(connection: Connection) -> str:
    """Let the queue's names be found, which stand alone in its statements; where names were looked for before."""
    before = connection.execute(text("SHOW search_path")).scalar_one()
    connection.execute(text(f"SET LOCAL search_path = {SCHEMA}, public"))
    return str(before)


def leave(connection: Connection, before: str) -> None:
    """Undo `enter`."""
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": before})


def script() -> str:
    """What `install` does, as text for whoever migrates by hand."""
    enter = f"CREATE SCHEMA {SCHEMA};\nSET LOCAL search_path = {SCHEMA}, public;"
    return f"{enter}\n{SchemaManager.get_schema()}\nSET LOCAL search_path = DEFAULT;"

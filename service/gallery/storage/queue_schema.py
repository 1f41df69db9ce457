"""The database schema of the task queue, which contains the tables of Procrastinate.

A migration creates it from the SQL of the installed Procrastinate. Alembic's comparison of models and database ignores
this schema.
"""

from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text

SCHEMA = "procrastinate"


def install(connection: Connection) -> None:
    """Creates the schema in the caller's transaction unless it exists."""
    if connection.execute(text("SELECT to_regclass('procrastinate.procrastinate_jobs')")).scalar() is not None:
        return
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    search_path = enter(connection)
    # The script has several statements and percent signs, so the driver must not process parameters in it.
    connection.execution_options(no_parameters=True).exec_driver_sql(SchemaManager.get_schema())
    connection.execution_options(no_parameters=False)
    leave(connection, search_path)


def enter(connection: Connection) -> str:
    """Puts the schema first on the search path, because Procrastinate's statements use unqualified names.

    Returns:
        The previous search path, for `leave`.
    """
    before = connection.execute(text("SHOW search_path")).scalar_one()
    connection.execute(text(f"SET LOCAL search_path = {SCHEMA}, public"))
    return str(before)


def leave(connection: Connection, search_path: str) -> None:
    """Restores the search path that `enter` returned."""
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": search_path})


def script() -> str:
    """Returns the SQL of `install`, for offline migrations."""
    header = f"CREATE SCHEMA {SCHEMA};\nSET LOCAL search_path = {SCHEMA}, public;"
    return f"{header}\n{SchemaManager.get_schema()}\nSET LOCAL search_path = DEFAULT;"

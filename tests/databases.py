"""URLs of other databases on the server of the tests."""

from sqlalchemy import make_url


def other_database(url: str, name: str) -> str:
    """Returns the URL of the database with this name on the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)

"""The name of the service's database role, without any import, for processes that load no SQLAlchemy."""

APP_ROLE = "registry_app"
"""The service's role. Other roles work too if they are members of it."""

"""The metadata with the naming convention of constraints, and columns that several tables share."""

from typing import Any

from sqlalchemy import Column, ColumnElement, DateTime, MetaData, Table, func

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def created_at() -> "Column[object]":
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def shown_external_id(table: Table) -> ColumnElement[Any]:
    """Returns the external id in the form in which it was sent first, of `identity` or `job_row`."""
    return func.coalesce(table.c.external_id_sent, table.c.external_id).label("external_id")


def shown_columns(table: Table) -> list[ColumnElement[Any]]:
    """Returns the columns of `identity` or `job_row`, with the external id in the form in which it was sent first."""
    names = [column for column in table.c if column.key not in ("external_id", "external_id_sent")]
    return [*names, shown_external_id(table)]


def labelled(table: Table) -> list[ColumnElement[Any]]:
    """Returns the columns with their keys as labels: a row's attributes are otherwise named as in the database."""
    return [column.label(column.key) for column in table.c]

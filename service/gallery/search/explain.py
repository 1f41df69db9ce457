"""Query plans of PostgreSQL (EXPLAIN ANALYZE)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Executable, Select
from sqlalchemy.exc import InternalError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node of a query plan. Omits the conditions of the node because they contain the probe's embedding.

    Attributes:
        node: node type, such as "Index Scan".
        on: relation or common table expression.
        index: name of the index.
        rows: rows that the node returned, in all loops.
        milliseconds: time of the node and its children, in all loops.
        depth: level in the plan, 0 for the root.
    """

    node: str
    on: str | None
    index: str | None
    rows: int
    milliseconds: float
    depth: int


class _Explained(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(_Explained)
def _compile(element: _Explained, compiler: Any, **options: Any) -> str:
    return "EXPLAIN (ANALYZE, FORMAT JSON) " + compiler.process(element.statement, **options)


async def explain(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any] | None = None
) -> list[PlanNode]:
    """Executes a statement with EXPLAIN ANALYZE and returns its plan, depth first from the root.

    The plan is empty if Citus cannot explain the statement: after it has read a reference table in the transaction.
    """
    try:
        async with connection.begin_nested():
            document = (await connection.execute(_Explained(statement), parameters)).scalar_one()
    except InternalError as error:
        if "local execution" not in str(error.orig):
            raise
        return []
    return list(_nodes(document[0]["Plan"], 0))


def _nodes(node: dict[str, Any], depth: int) -> Iterator[PlanNode]:
    loops = node["Actual Loops"]
    rows, milliseconds = node["Actual Rows"] * loops, node["Actual Total Time"] * loops
    index, on = node.get("Index Name"), node.get("Relation Name") or node.get("CTE Name")
    yield PlanNode(node["Node Type"], on, index, round(rows), round(milliseconds, 3), depth)
    for child in node.get("Plans", []):
        yield from _nodes(child, depth + 1)

"""Query plans of PostgreSQL (EXPLAIN ANALYZE)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Executable, Select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles

_SHARD = re.compile(r"_\d{6,}$")
"""The number at the end of the name of a shard and of its indexes."""


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
    """Executes a statement with EXPLAIN ANALYZE and returns its plan, depth first from the root."""
    document = (await connection.execute(_Explained(statement), parameters)).scalar_one()
    return list(_nodes(document[0]["Plan"], 0))


def _nodes(node: dict[str, Any], depth: int) -> Iterator[PlanNode]:
    loops = node["Actual Loops"]
    rows, milliseconds = node["Actual Rows"] * loops, node["Actual Total Time"] * loops
    index, on = node.get("Index Name"), node.get("Relation Name") or node.get("CTE Name")
    yield PlanNode(node["Node Type"], _name(on), _name(index), round(rows), round(milliseconds, 3), depth)
    for child in [*node.get("Plans", []), *_on_nodes(node)]:
        yield from _nodes(child, depth + 1)


def _name(relation: str | None) -> str | None:
    return None if relation is None else _SHARD.sub("", relation)


def _on_nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the plans of the nodes of a Citus cluster to which a node of the coordinator's plan sends statements."""
    tasks = node.get("Distributed Query", {}).get("Job", {}).get("Tasks", [])
    return [plan["Plan"] for task in tasks for plans in task.get("Remote Plan", []) for plan in plans]

"""How PostgreSQL ran a statement: which steps, over how many rows, in how many milliseconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Executable, Select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the plan. No conditions, since they hold the probe's embedding."""

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


async def explain(connection: AsyncConnection, statement: Select[Any]) -> list[Step]:
    """Run a statement once more and tell how, outermost step first."""
    answer = (await connection.execute(_Explained(statement))).scalar_one()
    return list(_steps(answer[0]["Plan"], 0))


def _steps(node: dict[str, Any], depth: int) -> Iterator[Step]:
    loops = node["Actual Loops"]
    rows, milliseconds = node["Actual Rows"] * loops, node["Actual Total Time"] * loops
    index, on = node.get("Index Name"), node.get("Relation Name") or node.get("CTE Name")
    yield Step(node["Node Type"], on, index, round(rows), round(milliseconds, 3), depth)
    for child in node.get("Plans", []):
        yield from _steps(child, depth + 1)

"""The import graph has no cycles. import-linter's contracts (`make check`) hold the directions."""

from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 250


@pytest.mark.parametrize("package", ["service", "trainer", "identity_registry"])
def test_no_module_imports_itself_indirectly(package: str) -> None:
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert list(TopologicalSorter(imports).static_order())  # raises CycleError


def test_no_source_file_is_long() -> None:
    files = [
        file
        for folder in ("service", "trainer", "migrations", "tools", "clients", "tests")
        for file in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 400
    assert {str(file): lines for file in files if (lines := len(file.read_text().splitlines())) > MAX_LINES} == {}

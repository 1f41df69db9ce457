"""The memory of a container is that of its control group."""

from pathlib import Path

import pytest

from service import memory


def test_the_limit_of_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    machine = memory.total_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_bytes() == machine
    (tmp_path / "memory.max").write_text("50000000\n")
    (tmp_path / "memory.current").write_text("20000000\n")
    assert (memory.total_bytes(), memory.available_bytes()) == (50_000_000, 30_000_000)
    (tmp_path / "memory.current").write_text("60000000\n")
    assert memory.available_bytes() == 0

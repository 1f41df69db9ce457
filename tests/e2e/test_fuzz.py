"""A short run of `make fuzz`: no generated input makes the service fail."""

import json
import subprocess
import sys
from pathlib import Path


def test_no_generated_input_makes_the_service_fail(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.fuzz", "--seed", "7", "--output", str(tmp_path), "--minutes", "0.5"]
    sizes = ["--requests", "1000", "--pictures", "10000", "--archives", "600"]
    result = subprocess.run([*command, *sizes], capture_output=True, text=True, timeout=170)
    problems = "\n".join(file.read_text() for file in sorted(tmp_path.glob("*.txt")))
    assert result.returncode == 0, result.stdout + result.stderr[-2000:] + problems
    sections = json.loads((tmp_path / "report.json").read_text())["sections"]
    assert all(sections[name]["tried"] > 0 for name in ("pictures", "archives", "schema", "requests", "raw", "worker"))
    assert sections["pictures"]["outcomes"]["decoded"] > 1000

"""Executes the notebooks of the documentation, one after another, on a small data set."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.trainer.test_run import photos_of

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "training" / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("ignore")  # of the kernel and of asyncio
@pytest.mark.timeout(300)
def test_notebooks_can_be_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PHOTOS": photos_of(tmp_path / "photos", 16, 3),
        "WORK": tmp_path / "work",
        "EPOCHS": 1,
        "MPLBACKEND": "agg",
        "IPYTHONDIR": tmp_path / "ipython",
        "JUPYTER_RUNTIME_DIR": tmp_path / "jupyter",
        "PYTHONPATH": Path(__file__).parents[2],
    }.items():
        monkeypatch.setenv(name, str(value))
    assert len(NOTEBOOKS) == 3
    for file in NOTEBOOKS:
        notebook = nbformat.read(file, as_version=4)
        assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "stored without outputs"
        done = NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        printed = "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", []))
        assert ("photos of 16 people" in printed) or ("aligned faces of 16 people" in printed) or ("FMR" in printed)

"""Tests of the import of data sets in the Hugging Face hub's format."""

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from trainer.__main__ import app
from trainer.configuration import ConfigError
from trainer.importing.parquet import Limits, limited, read

NAMES = ["Ada", "Grace/Hopper", "Zoe"]


def picture(value: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), value, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def data_set(tmp_path: Path) -> str:
    """Returns the pattern of two files with six rows each, with label names as the `datasets` library stores them."""
    schema = {"image": pl.Struct({"bytes": pl.Binary, "path": pl.String}), "label": pl.Int64}
    features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    for part in range(2):
        rows = [
            {"image": {"bytes": picture(40 * row, "PNG" if row % 2 else "JPEG"), "path": None}, "label": row % 3}
            for row in range(6)
        ]
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pl.DataFrame(rows, schema=schema).write_parquet(
            tmp_path / f"{part}.parquet", row_group_size=2, metadata=metadata
        )
    return str(tmp_path / "*.parquet")


def test_rows_have_the_names_of_their_labels(data_set: str) -> None:
    rows = list(read(data_set, "image", "label"))
    assert [row.label for row in rows] == [NAMES[row % 3] for row in range(6)] * 2
    with Image.open(io.BytesIO(rows[1].data)) as first:
        assert first.format == "PNG"


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        (Limits(classes=2), ["Ada", "Grace/Hopper"] * 4),
        (Limits(per_class=1), NAMES),
        (Limits(samples=4), [*NAMES, "Ada"]),
        (Limits(classes=1, per_class=3), ["Ada"] * 3),
        (Limits(probability=0.0), []),
    ],
)
def test_limits_are_applied(data_set: str, limits: Limits, labels: list[str]) -> None:
    assert [row.label for row in limited(read(data_set, "image", "label"), limits)] == labels


def test_random_selection_is_proportional_and_reproducible(data_set: str) -> None:
    rows = [row for _ in range(50) for row in read(data_set, "image", "label")]
    counts = [len(list(limited(iter(rows), Limits(probability=0.3, seed=seed)))) for seed in (1, 1, 2)]
    assert counts[0] == counts[1] != counts[2]
    assert 0.2 < counts[0] / len(rows) < 0.4


def test_pictures_are_written_by_identity(data_set: str, tmp_path: Path) -> None:
    out = tmp_path / "people"
    arguments = ["import-parquet", "--source", data_set, "--output", str(out), "--per-class", "3"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "9 pictures of 3 people" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["Ada", "Grace_Hopper", "Zoe"]
    assert sorted(path.name for path in (out / "Ada").iterdir()) == ["00000.jpg", "00001.png", "00002.jpg"]


def test_missing_files_and_columns_are_reported(data_set: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column face; its columns are image, label"):
        list(read(data_set, "face", "label"))
    with pytest.raises(ConfigError, match="contains int instead of pictures"):
        list(read(data_set, "label", "image"))
    with pytest.raises(ConfigError, match="nothing"):
        list(read(str(tmp_path / "nothing" / "*.parquet"), "image", "label"))


def test_incomplete_rows_are_skipped_and_files_are_not_overwritten(tmp_path: Path) -> None:
    schema = {"image": pl.Struct({"bytes": pl.Binary, "path": pl.String}), "label": pl.Int64}
    stored = {"bytes": picture(9, "PNG"), "path": None}
    rows = [{"image": stored, "label": -1}, {"image": stored, "label": 7}, {"image": stored, "label": None}]
    rows += [{"image": {"bytes": None, "path": "x"}, "label": 0}, {"image": stored, "label": 0}]
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": {"names": NAMES}}}})}
    pl.DataFrame(rows, schema=schema).write_parquet(tmp_path / "odd.parquet", metadata=metadata)
    assert [row.label for row in read(str(tmp_path / "odd.parquet"), "image", "label")] == ["Ada"]
    out = str(tmp_path / "people")
    for _ in range(2):
        arguments = ["import-parquet", "--source", str(tmp_path / "odd.parquet"), "--output", out]
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert sorted(path.name for path in (tmp_path / "people" / "Ada").iterdir()) == ["00000.png", "00001.png"]


def test_first_row_is_written_as_csv(data_set: str, tmp_path: Path) -> None:
    words = ["import-parquet", "--source", data_set, "--output", str(tmp_path / "out"), "--chunk-rows", "1"]
    CliRunner().invoke(app, [*words, "--first-row", str(tmp_path / "row.csv")], catch_exceptions=False)
    head, image, label = (tmp_path / "row.csv").read_text().splitlines()
    assert head == "column,type,value"
    assert image.startswith("image,")
    assert " bytes" in image
    assert label.endswith(",0")
    assert not (tmp_path / "out").exists()
    CliRunner().invoke(app, words, catch_exceptions=False)
    assert len(list((tmp_path / "out").glob("*/*"))) == 12

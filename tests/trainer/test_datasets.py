"""The formats of data sets: folders, archives, CSV tables, Parquet files and WebDataset archives."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.photos import COLLINS, HOPPER
from trainer.__main__ import app
from trainer.configuration import ConfigError
from trainer.datasets.photos import LabelledPhoto, SourcePart, by_identity
from trainer.datasets.reading import read_photos

PHOTO = HOPPER.read_bytes()


def write(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(PHOTO)
    return folder


def read(source: Path, tmp_path: Path) -> list[LabelledPhoto]:
    return read_photos([source], tmp_path / "work")


def counted(photos: list[LabelledPhoto]) -> dict[str, int]:
    return {name: len(paths) for name, paths in by_identity(photos)}


def test_folder_and_archive_with_one_folder_per_person(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", "ada/1.jpg", "ada/2.png", "grace/1.jpg", "notes.txt", "ada/notes.txt")
    assert counted(read(folder, tmp_path)) == {"ada": 2, "grace": 1}
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("export/ada/1.jpg", "export/grace/1.jpg", "__MACOSX/export/ada/._1.jpg"):
            archive.writestr(name, PHOTO)
    assert counted(read(tmp_path / "photos.zip", tmp_path)) == {"ada": 1, "grace": 1}


def test_train_and_val_below_one_folder_are_parts(tmp_path: Path) -> None:
    photos = read(write(tmp_path / "photos", "train/ada/1.jpg", "train/bob/1.jpg", "val/ada/2.jpg"), tmp_path)
    assert [(photo.identity, photo.part) for photo in photos] == [
        ("ada", SourcePart.TRAIN),
        ("bob", SourcePart.TRAIN),
        ("ada", SourcePart.HELD_OUT),
    ]
    people = read(write(tmp_path / "people", "train/1.jpg", "val/1.jpg", "ada/1.jpg"), tmp_path)
    assert {photo.part for photo in people} == {None}  # names of people


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "1.jpg", "2.jpg")
    folder = write(tmp_path / "photos", "ada/1.jpg")
    (folder / "grace").symlink_to(tmp_path / "elsewhere")
    (folder / "ada" / "loop").symlink_to(folder)
    (folder / "ada" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert counted(read(folder, tmp_path)) == {"ada": 2, "grace": 2}


def test_two_folders_with_one_name_are_rejected(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", "1/frontal/1.jpg", "2/frontal/1.jpg")
    with pytest.raises(ConfigError, match=r"'frontal' occurs 2 times \(1/frontal, 2/frontal\)"):
        read(folder, tmp_path)
    with pytest.raises(ConfigError, match="sort the photos into one folder per person"):
        read(write(tmp_path / "flat", "1.jpg"), tmp_path)


def test_tables_name_people_splits_and_boxes(tmp_path: Path) -> None:
    write(tmp_path / "images", "1.jpg", "2.jpg")
    table = tmp_path / "people.csv"
    table.write_text("﻿path;label;split\r\nimages/1.jpg;Ada;train\r\nimages/2.jpg;Grace Hopper;val\r\n")
    photos = read(table, tmp_path)
    assert [(photo.identity, photo.part) for photo in photos] == [
        ("Ada", SourcePart.TRAIN),
        ("Grace Hopper", SourcePart.HELD_OUT),
    ]
    table.write_text("photo,identity,x_min,y_min,x_max,y_max\nimages/1.jpg,Ada,1,2,30,40\n")
    assert read(table, tmp_path)[0].box == (1, 2, 30, 40)
    for text, message in (
        ("photo,identity\n", "lists no photo"),
        ("file,size\n1.jpg,3\n", "has no column identity"),
        ("photo,identity,split\nimages/1.jpg,Ada,dev\n", "line 2: split is 'dev'; use one of train, val"),
        ("photo,identity\nimages/3.jpg,Ada\n", r"line 2: the photo .*3.jpg does not exist"),
    ):
        table.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read(table, tmp_path)


def test_webdataset_archives(tmp_path: Path) -> None:
    members = {
        "shard/000.jpg": PHOTO,
        "shard/000.cls": b"ada\n",
        "shard/001.jpg": COLLINS.read_bytes(),
        "shard/001.json": json.dumps({"identity": "../eileen"}).encode(),
        "shard/002.jpg": PHOTO,  # without a label
    }
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for name, content in members.items():
            information = tarfile.TarInfo(name)
            information.size = len(content)
            archive.addfile(information, io.BytesIO(content))
    photos = read(tmp_path / "faces.tar", tmp_path)
    assert counted(photos) == {"_eileen": 1, "ada": 1}
    assert all(photo.path.is_relative_to(tmp_path / "work") for photo in photos)
    (tmp_path / "no.tar").write_bytes(b"no tar")
    with pytest.raises(ConfigError, match="is not a tar file"):
        read(tmp_path / "no.tar", tmp_path)


def test_parquet_files(tmp_path: Path) -> None:
    frame = pl.DataFrame({"image": [{"bytes": PHOTO, "path": "1.jpg"}] * 3, "label": ["ada", "ada", "grace"]})
    frame.write_parquet(tmp_path / "faces.parquet")
    assert counted(read(tmp_path / "faces.parquet", tmp_path)) == {"ada": 2, "grace": 1}


def test_unknown_sources_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "photos.rar").write_bytes(os.urandom(10))
    with pytest.raises(ConfigError, match="unknown format; name a folder or zip archive"):
        read(tmp_path / "photos.rar", tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        read(tmp_path / "nothing", tmp_path)


def test_boxes_of_every_face_are_written_as_csv(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", "grace/1.jpg")
    (folder / "grace" / "2.jpg").write_text("no picture")
    table = tmp_path / "boxes.csv"
    words = ["boxes", "--photos", folder, "--output", table, "--finder", "mtcnn", "--min-score", "0.5"]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert "1 photos without a face" in result.stdout
    [photo] = read(table, tmp_path)
    assert photo.identity == "grace"
    assert photo.box is not None
    assert photo.box[2] - photo.box[0] > 50
    assert "left_eye_x" in table.read_text().splitlines()[0]

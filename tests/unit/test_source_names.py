"""Names of files and people in archives: encodings, accents, delimiters, and folders of the same name."""

import io
import unicodedata
import zipfile
from pathlib import Path

import pytest

from service.gallery.jobs.records import RowStatus
from service.jobs.sources.archive import Archive
from service.jobs.sources.rows import list_pictures, list_rows

MAX_ROWS = 100
DECOMPOSED = unicodedata.normalize("NFD", "José/1.jpg")


def archive(tmp_path: Path, entries: dict[str, bytes]) -> Archive:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as written:
        for name, data in entries.items():
            written.writestr(name, data)
    return Archive(tmp_path / "a.zip", MAX_ROWS)


def without_utf8_flag(names: list[bytes]) -> bytes:
    """An archive whose names are these bytes, and which does not say that they are UTF-8."""
    file = io.BytesIO()
    placeholders = [chr(ord("a") + number) * len(name) for number, name in enumerate(names)]
    with zipfile.ZipFile(file, "w") as written:
        for name in placeholders:
            written.writestr(name, b"-")
    data = file.getvalue()
    for placeholder, name in zip(placeholders, names, strict=True):
        data = data.replace(placeholder.encode(), name)
    return data


def test_names_in_utf8_are_read_without_the_flag(tmp_path: Path) -> None:
    """macOS writes UTF-8 without the flag; names in code page 437 stay readable."""
    names = ["Zoë Müller/1.jpg".encode(), "Zo\u00eb/2.jpg".encode("cp437"), b"plain/3.jpg"]
    (tmp_path / "a.zip").write_bytes(without_utf8_flag(names))
    source = Archive(tmp_path / "a.zip", MAX_ROWS)
    assert source.names() == ["Zoë Müller/1.jpg", "Zoë/2.jpg", "plain/3.jpg"]
    assert [source.read(name, 10) for name in source.names()] == [b"-"] * 3
    source.close()


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("cp932", "山田/1.jpg"), ("gbk", "王伟/1.jpg"), ("cp850", "Àéñ/1.jpg"), ("cp866", "Анна/1.jpg")],
)
def test_names_in_a_code_page_are_read_with_its_name(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(without_utf8_flag([name.encode(encoding), b"plain/2.jpg"]))
    source = Archive(tmp_path / "a.zip", MAX_ROWS, encoding)
    assert source.names() == [name, "plain/2.jpg"]
    assert source.read(name, 10) == b"-"
    source.close()


def test_pictures_of_one_person_in_two_forms_of_the_name_are_one_group(tmp_path: Path) -> None:
    """A folder may have been copied twice, by macOS and by Linux."""
    source = archive(tmp_path, {DECOMPOSED: b"-", "Josè/1.jpg": b"-", "José/2.jpg": b"-", "Jos/3.jpg": b"-"})
    rows = list_rows(source, MAX_ROWS)
    assert all(row.status is None for row in rows)
    assert [unicodedata.normalize("NFC", row.external_id) for row in rows] == ["Jos", "Josè", "José", "José"]
    source.close()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_people_csv_of_spreadsheets_is_read(tmp_path: Path, delimiter: str, ending: str) -> None:
    lines = ["file;external_id;label", "x/1.jpg;ann;Ann, the first"]
    cells = [[f'"{cell}"' if delimiter in cell else cell for cell in line.split(";")] for line in lines]
    text = "\ufeff" + "".join(delimiter.join(line) + ending for line in cells)
    source = archive(tmp_path, {"people.csv": text.encode(), "x/1.jpg": b"-"})
    [row] = list_rows(source, MAX_ROWS)
    assert (row.status, row.external_id, row.label) == (None, "ann", "Ann, the first")
    source.close()


def test_people_csv_finds_files_whatever_form_their_accents_have(tmp_path: Path) -> None:
    text = "file,external_id\nJosé/1.jpg,jose\n"
    source = archive(tmp_path, {"people.csv": text.encode(), DECOMPOSED: b"-"})
    [row] = list_rows(source, MAX_ROWS)
    assert (row.status, row.source) == (None, DECOMPOSED)
    source.close()


def test_folders_of_one_name_are_not_merged(tmp_path: Path) -> None:
    names = ["2020/Ann/1.jpg", "2020/Ann/2.jpg", "2021/Ann/1.jpg", "2021/Ben/1.jpg", "top.jpg", "other.jpg"]
    source = archive(tmp_path, dict.fromkeys(names, b"-"))
    rows = {row.source: row for row in list_rows(source, MAX_ROWS)}
    rejected = [name for name, row in rows.items() if row.status is RowStatus.REJECTED]
    assert rejected == ["2021/Ann/1.jpg"]
    assert "the folders 2020/Ann and 2021/Ann have the same name" in (rows[rejected[0]].detail or "")
    assert all(row.status is None for row in list_pictures(source, MAX_ROWS))  # groups have no names
    source.close()

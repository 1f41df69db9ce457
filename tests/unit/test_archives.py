"""Archives that try to exhaust memory: compression methods, deflate bombs and contradictory directories."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import ArchiveUnreadable, ImageTooLarge, ImageUnreadable
from service.gallery.jobs.records import RowStatus
from service.jobs.sources import zip_directory
from service.jobs.sources.archive import Archive
from service.jobs.sources.rows import list_rows

MAX_ENTRIES = 1000
MAX_BYTES = 1024**2
OPENED: list[Archive] = []


def open_archive(file: Path, max_entries: int = MAX_ENTRIES) -> Archive:
    archive = Archive(file, max_entries)
    OPENED.append(archive)
    return archive


@pytest.fixture(autouse=True)
def _close_archives() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def written(file: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file


def opened(file: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Archive:
    return open_archive(written(file, entries, method), MAX_ENTRIES)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_entries_of_other_methods_are_rejected_without_decompression(tmp_path: Path, method: int) -> None:
    file = tmp_path / "methods.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ann/1.jpg", b"x" * 100, method)
        archive.writestr("ann/2.jpg", b"x" * 100, zipfile.ZIP_STORED)
        archive.writestr("ann/3.jpg", b"x" * 100, zipfile.ZIP_DEFLATED)
    source = open_archive(file)
    rows = {row.source: row for row in list_rows(source, MAX_ENTRIES)}
    assert {name: row.status for name, row in rows.items()} == {
        "ann/1.jpg": RowStatus.REJECTED,
        "ann/2.jpg": None,
        "ann/3.jpg": None,
    }
    assert "compression method" in (rows["ann/1.jpg"].detail or "")
    with pytest.raises(ImageUnreadable, match="compression method"):
        source.read("ann/1.jpg", MAX_BYTES)
    assert source.read("ann/2.jpg", MAX_BYTES) == source.read("ann/3.jpg", MAX_BYTES) == b"x" * 100


def test_small_archive_that_bzip2_expands_to_gigabytes_is_not_decompressed(tmp_path: Path) -> None:
    source = opened(tmp_path / "bomb.zip", {"ann/1.jpg": bytes(200 * MAX_BYTES)}, zipfile.ZIP_BZIP2)
    tracemalloc.start()
    with pytest.raises(ImageUnreadable, match="compression method 12"):
        source.read("ann/1.jpg", MAX_BYTES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MAX_BYTES


def test_lzma_entry_with_a_huge_dictionary_allocates_nothing(tmp_path: Path) -> None:
    """The header of the entry declares a dictionary of 4 GB, which the decompressor allocates for one byte."""
    file = written(tmp_path / "lzma.zip", {"ann/1.jpg": b"x" * 100, "ann/2.jpg": b""}, zipfile.ZIP_LZMA)
    data = bytearray(file.read_bytes())
    properties = 30 + len("ann/1.jpg") + 4
    data[properties + 1 : properties + 5] = b"\xf0\xff\xff\xff"
    file.write_bytes(data)
    with pytest.raises(ImageUnreadable, match="compression method 14"):
        open_archive(file).read("ann/1.jpg", MAX_BYTES)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_manifest_of_another_method_fails_the_job(tmp_path: Path, method: int) -> None:
    source = opened(tmp_path / "a.zip", {"people.csv": b"file,external_id\na.jpg,p\n", "a.jpg": b"-"}, method)
    with pytest.raises(ArchiveUnreadable, match=r"people\.csv cannot be read: .*compression method"):
        list_rows(source, MAX_ENTRIES)


@pytest.mark.parametrize("declared", [100, MAX_BYTES, 50 * MAX_BYTES])
def test_deflate_bomb_allocates_no_more_than_the_limit(tmp_path: Path, declared: int) -> None:
    file = written(tmp_path / "bomb.zip", {"ann/1.jpg": bytes(50 * MAX_BYTES)})
    data = bytearray(file.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<L", declared)
    file.write_bytes(data)
    source = open_archive(file)
    tracemalloc.start()
    with pytest.raises((ImageTooLarge, ImageUnreadable)):
        source.read("ann/1.jpg", MAX_BYTES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * MAX_BYTES


def test_entry_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    source = opened(tmp_path / "a.zip", {"ann/1.jpg": bytes(MAX_BYTES), "ann/2.jpg": bytes(MAX_BYTES + 1)})
    assert source.read("ann/1.jpg", MAX_BYTES) == bytes(MAX_BYTES)
    with pytest.raises(ImageTooLarge):
        source.read("ann/2.jpg", MAX_BYTES)


def with_zip64_directory(directory: bytes, end_record: bytes) -> bytes:
    """Returns an archive of a directory that only the ZIP64 record names, and a classic end record."""
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(directory), 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(directory), 1)
    return directory + record + locator + end_record


@pytest.mark.parametrize("classic_size", [0, 46, 0xFFFFFFFF])
def test_zip64_record_is_followed_even_if_the_classic_record_contradicts(
    tmp_path: Path, classic_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_directory, "MAX_DIRECTORY_BYTES", 70_000)
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, classic_size, 0, 0)
    file = tmp_path / "zip64.zip"
    file.write_bytes(with_zip64_directory(entry * 2000, end))
    with pytest.raises(ArchiveUnreadable, match="too many entries"):
        open_archive(file, 1_000_000)
    file.write_bytes(with_zip64_directory(entry * 1000, end))
    with pytest.raises(ArchiveUnreadable, match="more than 999 entries"):
        open_archive(file, 999)
    assert len(open_archive(file, 1000).names()) == 1000


def test_entries_are_counted_before_objects_are_created(tmp_path: Path) -> None:
    """A million entries of 47 bytes have a directory of 47 MB, and would take 900 MB as objects."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 1_000_000
    file = tmp_path / "million.zip"
    file.write_bytes(with_zip64_directory(directory, struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 0, 0, 0)))
    tracemalloc.start()
    with pytest.raises(ArchiveUnreadable, match="more than 200,000 entries"):
        open_archive(file, 200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(directory)


@pytest.mark.parametrize("entries", [200, 70_000])
def test_archive_with_too_many_entries_is_not_opened(tmp_path: Path, entries: int) -> None:
    """An archive with 70,000 entries has the 64-bit form of the end record."""
    file = written(tmp_path / "many.zip", {f"{number}": b"" for number in range(entries)}, zipfile.ZIP_STORED)
    open_archive(file, entries).close()
    with pytest.raises(ArchiveUnreadable, match=f"more than {entries - 1:,} entries"):
        open_archive(file, entries - 1)


@pytest.mark.parametrize("length", [0, 20, -10])
def test_truncated_archive_is_refused(tmp_path: Path, length: int) -> None:
    file = written(tmp_path / "truncated.zip", {"ann/1.jpg": b"x" * 100})
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ArchiveUnreadable, match="check that the upload was complete"):
        open_archive(file)


def test_missing_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreadable):
        open_archive(tmp_path / "missing.zip", MAX_ENTRIES)


def test_encrypted_entry_is_rejected_without_a_worker(tmp_path: Path) -> None:
    file = written(tmp_path / "encrypted.zip", {"ann/1.jpg": b"x" * 100})
    data = bytearray(file.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    [row] = list_rows(open_archive(file), MAX_ENTRIES)
    assert (row.status, "encrypted" in (row.detail or "")) == (RowStatus.REJECTED, True)


def test_every_skipped_file_has_a_row_with_a_reason(tmp_path: Path) -> None:
    nested = io.BytesIO()
    zipfile.ZipFile(nested, "w").close()
    skipped = [
        *("ann/1.cr2", "ann/2.psd", "ann/3.PDF", "ann/notes.txt", "ann/no_suffix", "ann/people.csv"),
        *("ann/.hidden.jpg", "__MACOSX/ann/._1.jpg", ".DS_Store", "ann/more.zip"),
    ]
    entries = dict.fromkeys(skipped, nested.getvalue()) | {"ann/": b"", "ann/1.jpg": b"-"}
    rows = list_rows(opened(tmp_path / "a.zip", entries), MAX_ENTRIES)
    assert {row.source for row in rows if row.status is RowStatus.REJECTED} == set(skipped)
    assert {row.source for row in rows if row.status is None} == {"ann/1.jpg"}
    assert all(row.code and row.detail for row in rows if row.status is not None)


def test_source_without_any_picture_fails(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreadable, match="contains no picture"):
        list_rows(opened(tmp_path / "a.zip", {"a.psd": b"-", "notes.txt": b"-"}), MAX_ENTRIES)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_only_one_of_several_entries_with_the_same_name_is_enrolled(tmp_path: Path) -> None:
    file = tmp_path / "twice.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ann/1.jpg", b"a")
        archive.writestr("ann/1.jpg", b"b")
    rows = list_rows(open_archive(file), MAX_ENTRIES)
    assert [row.status for row in rows] == [None, RowStatus.REJECTED]


def test_an_entry_without_a_name_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "nameless.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", b"data")
        archive.writestr("ann/1.jpg", b"data")
    source = Archive(file, 100)
    source._zip.infolist()[0].filename = ""  # `ZipFile.writestr` refuses to write such an entry
    rejected, accepted = list_rows(source, 100)
    assert (rejected.status, accepted.status, accepted.source) == ("rejected", None, "ann/1.jpg")
    source.close()

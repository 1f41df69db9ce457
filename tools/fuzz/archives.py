"""Mutated zip archives and `people.csv` files for bulk enrolments."""

import io
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from service.errors import RegistryError
from service.jobs.sources.archive import Archive
from service.jobs.sources.manifest import MANIFEST
from service.jobs.sources.rows import list_rows
from service.json_values import problem_of
from tools.fuzz.mutations import mutate
from tools.fuzz.originals import choose

MAX_BYTES = 1024**2
MAX_ENTRIES = 1000
READ = 4
"""Number of pictures that are read from each archive."""
NAMES = ("ada/1.jpg", "grace/2.png", "x.webp", "ü/ñ.heic", "../out.jpg", "a" * 300 + "/1.jpg", "/abs/1.bmp", "ada/")
FIELDS = (
    "",
    "Ada",
    '"',
    '"a,b"',
    "'",
    "a\x00b",
    "\ufeff",
    "x" * 5000,
    "y" * 140_000,
    "{}",
    '"{""a"": NaN}"',
    '"{""a"": 1e400}"',
    r'"{""a"": ""\ud800""}"',
    r'"{""a"": ""\u0000""}"',
    '"{""a"": ' + "9" * 6000 + '}"',
    '"' + '{""a"":' * 60 + "1" + "}" * 60 + '"',
    '"' + "[" * 100_000 + '"',
    "=cmd()",
    "a\nb",
    "a\rb",
)
COLUMNS = (
    "file,external_id",
    "file,external_id,label,metadata",
    "external_id,file",
    "file",
    "",
    "file,file,label",
    "a",
)


def make(seed: int, number: int) -> bytes:
    """Returns the mutated archive with this number. The same seed and number give the same archive."""
    rng = random.Random(f"archive {seed} {number}")  # noqa: S311  repeatable, not secret
    data = _archive(rng)
    return mutate(rng, data, _archive(rng)) if rng.random() < 0.6 else data


def check(data: bytes) -> str:
    """Lists an archive and reads its first pictures, as a job does. Returns "listed" or the code of the refusal.

    Raises:
        Exception: any other exception than RegistryError is a fault of the reader.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "archive.zip"
        path.write_bytes(data)
        try:
            archive = Archive(path, MAX_ENTRIES)
        except RegistryError as error:
            return error.code
        try:
            rows = list_rows(archive, MAX_ENTRIES)
        except RegistryError as error:
            return error.code
        finally:
            refusals = [_read(archive, name) for name in archive.names()[:READ]]
            archive.close()
        assert all(problem_of([row.source, row.external_id, row.label, row.metadata]) is None for row in rows)
        return "listed" if not any(refusals) else "listed, some unreadable"


def _read(archive: Archive, name: str) -> str | None:
    try:
        archive.read(name, MAX_BYTES)
    except RegistryError as error:
        return error.code
    return None


def _archive(rng: random.Random) -> bytes:
    """Returns an intact archive with pictures, and in half of the cases with a `people.csv`."""
    buffer = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in rng.sample(NAMES, 3):
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=rng.random() < 0.3) as file:
                file.write(choose(rng)[0][:2000])
        if rng.random() < 0.5:
            archive.writestr(MANIFEST, _manifest(rng))
        archive.comment = b"comment" * rng.randrange(3)
    return buffer.getvalue()


def _manifest(rng: random.Random) -> bytes:
    columns = rng.choice(COLUMNS[:2]) if rng.random() < 0.8 else rng.choice(COLUMNS)
    lines = [columns]
    for _ in range(rng.randrange(6)):
        fields = [rng.choice(NAMES)] + [rng.choice(FIELDS) for _ in range(rng.choice((1, 3, 3, 3, 5)))]
        lines.append(",".join(fields))
    encoders: tuple[Callable[[str], bytes], ...] = (
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("latin-1", "replace"),
    )
    data = rng.choice(encoders if rng.random() < 0.2 else encoders[:1])(rng.choice(("\n", "\r\n")).join(lines))
    return mutate(rng, data or b"\n", data or b"\n") if rng.random() < 0.4 else data

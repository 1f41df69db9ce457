"""Extracts WebDataset archives: tar files in which files with the same stem form one sample."""

import json
import tarfile
from pathlib import Path, PurePosixPath

from service.vision.formats import SUFFIXES
from trainer.cache import atomic_folder
from trainer.configuration import ConfigError

LABEL_SUFFIXES = (".cls", ".txt", ".json")
LABEL_KEYS = ("identity", "label", "person", "name", "cls")
MAX_LABEL_BYTES = 1 << 20


def extract(archive: Path, folder: Path) -> None:
    """Writes `<identity>/<picture>` of a tar file. The label is `<key>.cls`, `<key>.txt` or a field of `<key>.json`.

    Raises:
        ConfigError: The file is not a tar file, or no sample has a picture and a label.
    """
    try:
        with tarfile.open(archive) as opened, atomic_folder(folder) as unfinished:
            samples = _samples(opened)
            written = sum(_write(opened, key, sample, unfinished) for key, sample in samples.items())
            if not written:
                raise ConfigError(f"{archive} has no sample with a picture and one of {', '.join(LABEL_SUFFIXES)}")
    except tarfile.TarError as error:
        raise ConfigError(f"{archive} is not a tar file: {error}") from None


def _samples(archive: tarfile.TarFile) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Returns the files of each sample by their suffix. The key of a sample is its path up to the first dot."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in archive:
        if not member.isfile():
            continue
        path = PurePosixPath(member.name)
        stem, _, suffix = path.name.partition(".")
        samples.setdefault(str(path.with_name(stem)), {})[f".{suffix.lower()}"] = member
    return samples


def _write(archive: tarfile.TarFile, key: str, sample: dict[str, tarfile.TarInfo], folder: Path) -> bool:
    picture = next((suffix for suffix in sample if suffix in SUFFIXES), None)
    label = _label(archive, sample)
    if picture is None or not label:
        return False
    content = archive.extractfile(sample[picture])
    assert content is not None
    target = folder / label / f"{key.strip('/').replace('/', '-').replace('..', '')}{picture}"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content.read())
    return True


def _label(archive: tarfile.TarFile, sample: dict[str, tarfile.TarInfo]) -> str:
    """Returns the label of a sample as the name of a folder; "" if it has none."""
    for suffix in LABEL_SUFFIXES:
        if suffix not in sample or sample[suffix].size > MAX_LABEL_BYTES:
            continue
        content = archive.extractfile(sample[suffix])
        assert content is not None
        text = content.read().decode("utf-8", "replace").strip()
        value = _field(text) if suffix == ".json" else text
        return value.replace("/", "_").replace("\\", "_").replace("\0", "").strip(". ")
    return ""


def _field(text: str) -> str:
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return ""
    if not isinstance(document, dict):
        return ""
    return next((str(document[key]) for key in LABEL_KEYS if key in document), "")

"""Reads the files of a model bundle. A bundle may come from a third party: no file outside its folder is read.

The manifest lists each file with its SHA-256. Files that are not listed are not read.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from service.errors import StartupError

GRAPH_SUFFIX = ".onnx"
_EXTERNAL_LOCATION = re.compile(rb"(\x0a|\x8a\x80*\x00)(\x08|\x88\x80*\x00)location")
"""The protobuf field 1 with the value "location": the key under which ONNX stores the path of an external tensor."""


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_listed(folder: Path, files: Mapping[str, str], name: str) -> bytes:
    """Returns the content of a file of a bundle.

    Args:
        files: SHA-256, in hexadecimal, of every file of the bundle by name.

    Raises:
        StartupError: the file is not listed, is not in the bundle, leaves the folder through a symbolic link, or has
            another SHA-256.
    """
    if name not in files:
        raise StartupError(f"{folder}: `files` of the manifest has no hash of {name!r}")
    path = contained(folder, name)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != files[name]:
        raise StartupError(f"{path} is not the file that the manifest describes (its SHA-256 differs)")
    return content


def contained(folder: Path, name: str) -> Path:
    """Returns the path of a regular file of a bundle.

    Raises:
        StartupError: the name is a path, or the file is missing, or is a symbolic link to a file outside the folder.
    """
    path = folder / name
    if Path(name).name != name or "\\" in name or not path.is_file():
        raise StartupError(f"{folder}: the manifest names the file {name!r}, which is not in the bundle")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StartupError(f"{path} is a link to a file outside the bundle; copy the file into the bundle")
    return path


def require_self_contained(folder: Path, name: str, graph: bytes) -> None:
    """Checks that a runtime reads no further file with a graph.

    Other formats than ONNX, and external tensors of ONNX, have further files, which no manifest lists.

    Raises:
        StartupError: the graph is not in the ONNX format, or stores tensors in other files.
    """
    if not name.endswith(GRAPH_SUFFIX):
        raise StartupError(f"{folder}: the graph {name!r} is not an {GRAPH_SUFFIX} file; export it as ONNX")
    if _EXTERNAL_LOCATION.search(graph):
        raise StartupError(f"{folder / name} stores tensors in other files; export the graph without external data")

"""Names and boxes of faces in the XMP of a picture, as digiKam, Lightroom, Picasa and Apple Photos write them.

The schema is that of the Metadata Working Group (Guidelines for Handling Image Metadata 2.0, image regions): the centre
and the size of each region as shares of the stored picture, before its orientation is applied.
"""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

REGIONS = "{http://www.metadataworkinggroup.com/schemas/regions/}"
AREA = "{http://ns.adobe.com/xmp/sType/Area#}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
ORIENTATION = "{http://ns.adobe.com/tiff/1.0/}Orientation"
START, END = b"<x:xmpmeta", b"</x:xmpmeta>"
"""The first packet of a file: XMP is stored as it is in JPEG, PNG, TIFF, WebP and HEIC files (XMP, part 3)."""
MAX_PACKET_BYTES = 1024**2
MAX_REGIONS, MAX_ITEMS, MAX_ELEMENTS = 200, 1_000, 50
"""Limits of the regions that are returned, of the items of the list that are read, and of the elements of an item."""
EXIF_BYTES = 64 * 1024
EXIF_MARKS = {b"\xff\xd8": ((b"Exif\0\0", 0),), b"\x89P": ((b"eXIf", 0),), b"RI": ((b"EXIF", 4),)}
"""What precedes the EXIF data of JPEG, PNG and WebP files, and the number of further bytes before it."""
ORIENTATION_TAG = 0x0112
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class FaceRegion:
    """A named face.

    Attributes:
        box: x_min, y_min, x_max, y_max as shares of the width and the height of the upright picture.
    """

    name: str
    box: Box


def face_regions(data: bytes, sidecar: bytes = b"") -> list[FaceRegion]:
    """Returns the named faces of a picture file, in the order of the file. Damaged XMP has none.

    Args:
        sidecar: the XMP file beside the picture, which applies if the picture itself contains no named face.
    """
    orientation = exif_orientation(data)
    return _of_packet(data, orientation) or _of_packet(sidecar, orientation)


def _of_packet(data: bytes, orientation: int | None) -> list[FaceRegion]:
    start = data.find(START)
    end = data.find(END, start, start + MAX_PACKET_BYTES)
    if start < 0 or end < 0:
        return []
    try:
        root = ElementTree.fromstring(data[start : end + len(END)], forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError):
        return []
    turned = orientation or _orientation(root)
    region_list = next(root.iter(f"{REGIONS}RegionList"), None)
    items = iter(()) if region_list is None else region_list.iter(f"{RDF}li")
    regions = (_region(item, turned) for item in itertools.islice(items, MAX_ITEMS))
    return [region for region in regions if region is not None][:MAX_REGIONS]


def exif_orientation(data: bytes) -> int | None:
    """Returns the orientation in the EXIF data of a JPEG, PNG, WebP or TIFF file (CIPA DC-008, 4.6.4); None: none."""
    if data.startswith((b"II*\0", b"MM\0*")):
        start = 0
    else:
        found = [(data.find(mark), len(mark) + after) for mark, after in EXIF_MARKS.get(data[:2], ())]
        start = next((position + length for position, length in found if position >= 0), -1)
    if start < 0:
        return None
    tiff = data[start : start + EXIF_BYTES].removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(f"{order}4xI", tiff)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for position in range(first + 2, first + 2 + 12 * count, 12):
            tag, value = struct.unpack_from(f"{order}H6xH", tiff, position)
            if tag == ORIENTATION_TAG:
                return value if value in range(1, 9) else None
    except struct.error:
        pass
    return None


def _region(item: Any, orientation: int) -> FaceRegion | None:
    """Returns the face that an item of a region list describes; None: it is another region, or has no name."""
    values = dict(_properties(item))
    name = values.get(f"{REGIONS}Name", "").strip()
    if not name or values.get(f"{REGIONS}Type", "Face") != "Face" or values.get(f"{AREA}unit", "normalized") == "pixel":
        return None
    try:
        x, y, width, height = (float(values[f"{AREA}{key}"]) for key in "xywh")
    except (KeyError, ValueError):
        return None
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
        return None
    return FaceRegion(name, _upright((x - width / 2, y - height / 2, x + width / 2, y + height / 2), orientation))


def _properties(item: Any) -> Iterator[tuple[str, str]]:
    """Yields the properties below an element, which RDF allows as attributes or as elements."""
    for element in itertools.islice(item.iter(), MAX_ELEMENTS):
        yield from element.attrib.items()
        if element.text and not len(element):
            yield element.tag, element.text


def _orientation(root: Any) -> int:
    values = [value for element in root.iter() for name, value in _properties_of(element) if name == ORIENTATION]
    return int(values[0]) if values and values[0] in "12345678" else 1


def _properties_of(element: Any) -> Iterator[tuple[str, str]]:
    yield from element.attrib.items()
    yield element.tag, element.text or ""


def _upright(box: Box, orientation: int) -> Box:
    """Returns a box of the stored picture as one of the upright picture (CIPA DC-008, tag Orientation)."""
    corners = [_upright_point(x, y, orientation) for x, y in (box[:2], box[2:])]
    (x_1, y_1), (x_2, y_2) = corners
    clipped = (min(max(value, 0.0), 1.0) for value in (min(x_1, x_2), min(y_1, y_2), max(x_1, x_2), max(y_1, y_2)))
    x_min, y_min, x_max, y_max = clipped
    return x_min, y_min, x_max, y_max


def _upright_point(x: float, y: float, orientation: int) -> tuple[float, float]:
    return {
        2: (1 - x, y),
        3: (1 - x, 1 - y),
        4: (x, 1 - y),
        5: (y, x),
        6: (1 - y, x),
        7: (1 - y, 1 - x),
        8: (y, 1 - x),
    }.get(orientation, (x, y))

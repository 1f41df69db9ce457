"""Face regions in XMP: the ways in which programs write them, orientations, and hostile packets."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.jobs.sources.face_regions import MAX_REGIONS, FaceRegion, exif_orientation, face_regions
from service.vision.jpeg import upright
from tests.photos import encoded

NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
    'xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"'
)
AS_ATTRIBUTES = """<rdf:li><rdf:Description mwg-rs:Name="{name}" mwg-rs:Type="{type}"><mwg-rs:Area stArea:x="{x}"
 stArea:y="{y}" stArea:w="{w}" stArea:h="{h}" stArea:unit="normalized"/></rdf:Description></rdf:li>"""
AS_ELEMENTS = """<rdf:li rdf:parseType="Resource"><mwg-rs:Area rdf:parseType="Resource"><stArea:h>{h}</stArea:h>
<stArea:unit>normalized</stArea:unit><stArea:w>{w}</stArea:w><stArea:x>{x}</stArea:x><stArea:y>{y}</stArea:y>
</mwg-rs:Area><mwg-rs:Name>{name}</mwg-rs:Name><mwg-rs:Type>{type}</mwg-rs:Type></rdf:li>"""
DIMENSIONS = '<mwg-rs:AppliedToDimensions stDim:w="400" stDim:h="300" stDim:unit="pixel"/>'


def item(form: str = AS_ATTRIBUTES, name: str = "Ann", kind: str = "Face", area: str = ".3 .4 .2 .1") -> str:
    x, y, w, h = area.split()
    return form.format(name=name, type=kind, x=x, y=y, w=w, h=h)


def packet(*items: str, orientation: int | None = None, start: str = "") -> bytes:
    attribute = "" if orientation is None else f' tiff:Orientation="{orientation}"'
    return (
        f'{start}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {NAMESPACES}><rdf:Description rdf:about=""{attribute}>'
        f"<mwg-rs:Regions>{DIMENSIONS}<mwg-rs:RegionList><rdf:Bag>{''.join(items)}</rdf:Bag></mwg-rs:RegionList>"
        "</mwg-rs:Regions></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def with_exif(orientation: int, xmp: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(np.zeros((30, 40, 3), np.uint8), "JPEG", exif=exif, xmp=xmp)


@pytest.mark.parametrize("form", [AS_ATTRIBUTES, AS_ELEMENTS])
def test_both_forms_of_rdf_are_read(form: str) -> None:
    data = packet(item(form), item(form, "Bea & Cé".replace("&", "&amp;"), area=".5 .5 1 1"))
    ann, bea = face_regions(b"\xff\xd8 anything" + data + b"anything")
    assert (ann.name, bea) == ("Ann", FaceRegion("Bea & Cé", (0, 0, 1, 1)))
    np.testing.assert_allclose(ann.box, (0.2, 0.35, 0.4, 0.45))


def test_regions_without_a_name_and_other_kinds_are_left_out() -> None:
    items = [
        item(name=" "),
        item(kind="Pet"),
        item(area="2 .4 .2 .1"),
        item(area="a .4 .2 .1"),
        item(area=".1 .4 0 .1"),
    ]
    assert face_regions(packet(*items, "<rdf:li>text</rdf:li>")) == []
    assert len(face_regions(packet(*[item()] * 300))) == MAX_REGIONS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("in_exif", [True, False])
def test_boxes_are_turned_like_the_picture(orientation: int, in_exif: bool) -> None:
    """The regions are those of the stored picture."""
    stored = np.zeros((30, 40), bool)
    stored[6:12, 10:20] = True  # rows, columns
    xmp = packet(item(area=f"{15 / 40} {9 / 30} {10 / 40} {6 / 30}"), orientation=None if in_exif else orientation)
    [region] = face_regions(with_exif(orientation, xmp) if in_exif else xmp)
    turned = upright(stored, orientation)
    height, width = turned.shape
    rows, columns = np.flatnonzero(turned.any(axis=1)), np.flatnonzero(turned.any(axis=0))
    expected = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    np.testing.assert_allclose(region.box, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_of_every_format_is_read(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert exif_orientation(encoded(np.zeros((30, 40, 3), np.uint8), kind, exif=exif)) == 6
    assert exif_orientation(encoded(np.zeros((30, 40, 3), np.uint8), kind)) in (None, 1)


def test_exif_has_precedence_over_xmp() -> None:
    [region] = face_regions(with_exif(1, packet(item(), orientation=6)))
    np.testing.assert_allclose(region.box, (0.2, 0.35, 0.4, 0.45))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<x:xmpmeta",
        b"<x:xmpmeta></x:xmpmeta>",
        packet(item())[:-20],
        packet(item()).replace(b"</rdf:RDF>", b""),
        b'<x:xmpmeta><!DOCTYPE a [<!ENTITY b "c">]>&b;</x:xmpmeta>',
        b"<x:xmpmeta>" + b"<a>" * 100_000 + b"</x:xmpmeta>",
        b"<x:xmpmeta>" + b"x" * 2**21 + b"</x:xmpmeta>",
        packet("<rdf:li>" * 50_000 + "</rdf:li>" * 50_000),  # reading every item with all below it takes minutes
    ],
)
def test_damaged_and_hostile_packets_have_no_regions(data: bytes) -> None:
    assert face_regions(data) == []


@given(st.binary(max_size=200))
def test_damaged_exif_has_no_orientation(tail: bytes) -> None:
    for order in (b"II*\0", b"MM\0*"):
        found = exif_orientation(b"\xff\xd8\xff\xe1\0\0Exif\0\0" + order + struct.pack(">I", 8) + tail)
        assert found is None or found in range(1, 9)

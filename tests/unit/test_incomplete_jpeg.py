"""JPEG files that end before their last rows."""

import numpy as np
import pytest
from PIL import Image

from service.errors import ImageTruncated
from service.vision.image import DecodedPicture, ImageLimits, decode_into, new_memory
from tests.photos import COLLINS, encoded, pixels

PHOTO = pixels(COLLINS)
GREY = 114


def decoded(data: bytes) -> DecodedPicture:
    return decode_into(data, ImageLimits(), new_memory, None)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"optimize": True}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_the_rows_of_the_file_are_the_same_and_the_others_grey(share: float, options: dict[str, int]) -> None:
    data = encoded(PHOTO, "JPEG", quality=90, **options)
    picture = decoded(data[: int(share * len(data))])
    assert picture.visible is not None
    left, top, right, bottom = picture.visible
    assert (left, top, right, picture.pixels.shape) == (0, 0, PHOTO.shape[1], PHOTO.shape)
    assert abs(bottom / len(PHOTO) - share) < 0.1
    np.testing.assert_array_equal(picture.pixels[:bottom], decoded(data).pixels[:bottom])
    assert (picture.pixels[bottom:] == GREY).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_rows_are_found_in_every_orientation(orientation: int) -> None:
    image = Image.fromarray(PHOTO[:, :400])
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "JPEG", quality=90, exif=exif)
    picture, whole = decoded(data[: len(data) // 2]), decoded(data).pixels
    assert picture.visible is not None
    left, top, right, bottom = picture.visible
    assert picture.pixels.shape == whole.shape
    np.testing.assert_array_equal(picture.pixels[top:bottom, left:right], whole[top:bottom, left:right])
    is_missing = np.ones(whole.shape[:2], bool)
    is_missing[top:bottom, left:right] = False
    assert 0.3 < is_missing.mean() < 0.7
    assert (picture.pixels[is_missing] == GREY).all()


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_end_marker_hides_at_most_the_last_blocks(missing: int) -> None:
    data = encoded(PHOTO, "JPEG", quality=90)
    picture = decoded(data[:-missing])
    assert picture.visible is not None
    assert picture.visible[3] > len(PHOTO) - 18


@pytest.mark.parametrize(
    ("kind", "options", "share"),
    [("JPEG", {"progressive": True}, 0.9), ("JPEG", {}, 0.02), ("PNG", {}, 0.9)],
)
def test_other_incomplete_files_are_refused(kind: str, options: dict[str, bool], share: float) -> None:
    data = encoded(PHOTO, kind, **options)
    with pytest.raises(ImageTruncated):
        decoded(data[: int(share * len(data))])

"""The limit of the pictures that an engine accepts."""

import pytest

from service.errors import EngineBusy
from service.inference.engine import Picture
from service.inference.waiting import WaitingPictures

PICTURE, BACKGROUND = Picture(b""), Picture(b"", background=True)


def test_full_queue_refuses_all_pictures_of_a_request() -> None:
    waiting = WaitingPictures(6)
    with waiting.places([PICTURE] * 4):
        with pytest.raises(EngineBusy, match="4 pictures are waiting"), waiting.places([PICTURE] * 3):
            pass
        with waiting.places([PICTURE] * 2):
            pass
    with waiting.places([PICTURE] * 3):
        pass


def test_request_larger_than_the_queue_is_accepted_if_nothing_waits() -> None:
    with WaitingPictures(6).places([PICTURE] * 12):
        pass


def test_background_pictures_do_not_fill_the_queue_of_requests() -> None:
    waiting = WaitingPictures(4)
    with waiting.places([BACKGROUND] * 4):
        with pytest.raises(EngineBusy), waiting.places([BACKGROUND]):
            pass
        with waiting.places([PICTURE] * 4), pytest.raises(EngineBusy), waiting.places([PICTURE]):
            pass

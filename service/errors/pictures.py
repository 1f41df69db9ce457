"""Errors of pictures and faces that cannot be used: HTTP 413 and 422."""

from service.errors.requests import InvalidRequest


class ImageUnreadable(InvalidRequest):
    code, title, status = "image_unreadable", "The file is not a decodable image", 422


class ImageTruncated(InvalidRequest):
    code, title, status = "image_truncated", "The image file is truncated", 422


class ImageTooLarge(InvalidRequest):
    code, title, status = "image_too_large", "The image exceeds the limit on pixels or bytes", 413


class ImageTooCostly(InvalidRequest):
    code, title, status = "image_too_costly", "Decoding the image takes too much time or memory", 422


class TooManyFaces(InvalidRequest):
    code, title, status = "too_many_faces", "The picture shows too many faces", 422


class ImageTooSmall(InvalidRequest):
    code, title, status = "image_too_small", "The image is too small to contain a face", 422


class NoFace(InvalidRequest):
    code, title, status = "no_face", "No face was detected", 422


class SeveralFaces(InvalidRequest):
    code, title, status = "several_faces", "The picture shows more than one face", 422


class FaceRejected(InvalidRequest):
    code, title, status = "face_rejected", "The face fails the quality gate", 422


class AdditionRejected(InvalidRequest):
    code, title, status = "addition_rejected", "The picture does not match the existing identity", 422


class TemplateNotKept(InvalidRequest):
    code, title, status = "template_not_kept", "The identity's other templates represent it better", 422


class NoImageAccepted(InvalidRequest):
    code, title, status = "no_image_accepted", "No picture could be enrolled", 422

"""A picture or the face in it cannot be used: HTTP 413 and 422."""

from service.errors.requests import InvalidRequest


class ImageUnreadable(InvalidRequest):
    code, title, status = "image_unreadable", "The file is not an image that can be decoded", 422


class ImageTruncated(InvalidRequest):
    code, title, status = "image_truncated", "The image ends before its last pixel", 422


class ImageTooLarge(InvalidRequest):
    code, title, status = "image_too_large", "The image has more pixels or bytes than allowed", 413


class ImageTooSmall(InvalidRequest):
    code, title, status = "image_too_small", "The image is too small to hold a face", 422


class NoFace(InvalidRequest):
    code, title, status = "no_face", "No face was found", 422


class SeveralFaces(InvalidRequest):
    code, title, status = "several_faces", "The picture shows more than one face", 422


class FaceRejected(InvalidRequest):
    code, title, status = "face_rejected", "The face is not good enough to be enrolled", 422


class NoImageAccepted(InvalidRequest):
    code, title, status = "no_image_accepted", "None of the images could be enrolled", 422

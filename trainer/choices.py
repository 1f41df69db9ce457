"""Values of command-line options. This module imports no large library, so that `--help` is fast."""

from enum import StrEnum


class Training(StrEnum):
    """Whether a run trains: if the people suffice, always, or never."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class FinderName(StrEnum):
    """Face detectors. `yolo` is a detector bundle, the shipped one by default."""

    YOLO = "yolo"
    YUNET = "yunet"
    MTCNN = "mtcnn"
    MEDIAPIPE = "mediapipe"


class LandmarkFinderName(StrEnum):
    """Finders of the landmarks of an aligned crop."""

    YOLO = "yolo"
    YUNET = "yunet"
    MTCNN = "mtcnn"
    MEDIAPIPE = "mediapipe"
    DLIB = "dlib"


class PhotoFace(StrEnum):
    """The face to use of a photo with several; `only` rejects the photo."""

    STRONGEST = "strongest"
    LARGEST = "largest"
    ONLY = "only"


class DeviceName(StrEnum):
    """Processor of the training."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class PrecisionName(StrEnum):
    """Number format of a runtime; thresholds of one are not valid for the other."""

    F32 = "f32"
    BF16 = "bf16"


class CropKind(StrEnum):
    """The position of the face is defined by five landmarks, as in the service, or by its box alone."""

    LANDMARKS = "landmarks"
    BOX = "box"


class Format(StrEnum):
    """Further formats of an export."""

    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"
    OPENVINO = "openvino"
    LITERT = "litert"
    LITERT_INT8 = "litert-int8"


class PartName(StrEnum):
    """Parts of the split of identities; `val` is short for `validation`."""

    TRAIN = "train"
    VAL = "val"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    ALL = "all"

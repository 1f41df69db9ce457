"""Face detectors and landmark finders by name: the shipped YOLO bundle, YuNet, MTCNN, MediaPipe, dlib, Ultralytics."""

from trainer.finders.all_faces import as_detector
from trainer.finders.dlib import DlibLandmarks
from trainer.finders.landmarks import DetectorLandmarks, LandmarkFinder, MediaPipeLandmarks
from trainer.finders.mediapipe import MediaPipe
from trainer.finders.mtcnn import Mtcnn
from trainer.finders.names import Finder
from trainer.finders.ultralytics import UltralyticsCheckpoint
from trainer.finders.yunet import YUNET_MIN_SCORE, YuNet

__all__ = [
    "YUNET_MIN_SCORE",
    "DetectorLandmarks",
    "DlibLandmarks",
    "Finder",
    "LandmarkFinder",
    "MediaPipe",
    "MediaPipeLandmarks",
    "Mtcnn",
    "UltralyticsCheckpoint",
    "YuNet",
    "as_detector",
]

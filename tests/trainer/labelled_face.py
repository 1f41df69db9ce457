"""A labelled face with five landmarks."""

import numpy as np

from trainer.detector.labels import LabelledFace

POINTS = np.array([[30, 40, 1], [70, 40, 1], [50, 60, 1], [35, 80, 1], [65, 80, 1]], np.float32)
FACE = LabelledFace(np.array([20, 20, 80, 100], np.float32), POINTS)

"""Instructions of the processor that make the models fast."""

import platform

import cv2

AVX2 = 11
"""`CV_CPU_AVX2` of OpenCV's enumeration `CpuFeatures`, which its Python module does not contain."""


def has_avx2() -> bool:
    """Returns False for an x86 processor without AVX2; OpenVINO, ONNX Runtime and FAISS then use slower code."""
    is_x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return not is_x86 or bool(cv2.checkHardwareSupport(AVX2))

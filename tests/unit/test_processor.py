"""Processors that cannot run the service, or only slowly."""

import numpy as np
import pytest

from service import processor
from service.vision.instructions import has_avx2

NEHALEM = "flags\t\t: fpu sse sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
KVM64 = "flags\t\t: fpu sse sse2 pni cx16"


def test_the_message_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    processor.require_supported()  # no file
    for text in (f"processor\t: 0\n{NEHALEM}\n", "processor: 0\nFeatures: asimd\n"):
        (tmp_path / "cpuinfo").write_text(text)
        processor.require_supported()
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{KVM64}\n")
    with pytest.raises(SystemExit, match=r"lacks lahf_lm, popcnt, sse4_1, sse4_2, ssse3; x86-64-v2 is required"):
        processor.require_supported()
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    processor.require_supported()


def test_avx2_is_detected_as_numpy_does() -> None:
    assert has_avx2() == np._core._multiarray_umath.__cpu_features__.get("AVX2", True)  # type: ignore[attr-defined]

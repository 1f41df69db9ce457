"""Tests of the fuzzer: it notices faults, survives crashes, and repeats an input from its seed and number."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from service.vision.image import ImageLimits, decode
from tools.fuzz import archives, originals, pictures, processes
from tools.fuzz.findings import Findings
from tools.fuzz.processes import Subject
from tools.fuzz.segments import split, with_checksums
from tools.fuzz.values import Raw, render


def make_number(seed: int, number: int) -> bytes:
    return str(number).encode()


def check_number(data: bytes) -> str:
    """Raises for 3, crashes the process for 5 and 11."""
    if data == b"3":
        raise KeyError(data)
    if data in (b"5", b"11"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return "checked"


def check_slowly(data: bytes) -> str:
    if data == b"1":
        time.sleep(60)
    return "checked"


@pytest.mark.parametrize("count", [1, 2])
def test_exceptions_and_crashes_are_counted_and_their_inputs_stored(tmp_path: Path, count: int) -> None:
    findings = Findings(tmp_path, 9)
    subject = Subject("numbers", make_number, check_number)
    for part in processes.run(subject, 9, range(12), count, None):
        findings.add(subject, 9, part)
    section = findings.section("numbers")
    assert (section.tried, section.exceptions, section.crashes) == (12, 1, 2)
    assert sorted(file.read_bytes() for file in tmp_path.glob("*.bin")) == [b"11", b"3", b"5"]
    findings.write()
    assert json.loads((tmp_path / "report.json").read_text())["failures"] == 3


def test_an_input_that_does_not_end_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "HANG_S", 1.0)
    parts = list(processes.run(Subject("slow", make_number, check_slowly), 0, range(3), 1, None))
    assert sum(part.tried for part in parts) == 3
    assert [failure[:2] for part in parts for failure in part.failures] == [(1, "crash")]


def test_statuses_of_faults_are_failures(tmp_path: Path) -> None:
    findings = Findings(tmp_path, 1)
    for status in (200, 422, 503, 507, 500, 502, None):
        findings.respond("requests", status, 0.1, b"GET /", "GET /")
    assert (findings.section("requests").tried, findings.failures) == (7, 2)


def test_an_input_is_repeatable() -> None:
    for module in (pictures, archives):
        assert module.make(4, 17) == module.make(4, 17) != module.make(5, 17)


def test_originals_are_intact_and_their_segments_complete() -> None:
    for files in originals.pictures().values():
        for data in files:
            assert decode(data, ImageLimits()).shape[2] == 3
            assert b"".join(split(data)) == data == with_checksums(data)
            assert len(split(data)) > 1


def test_values_that_json_encoders_refuse_are_rendered() -> None:
    value = {"a": [Raw("9" * 6000), float("nan"), "\ud800"], "\x00": None}
    assert render(value) == f'{{"a": [{"9" * 6000}, NaN, "\\ud800"], "\\u0000": null}}'

"""Reports the hard cases of a bundle, optionally beside YuNet, as tables and picture sheets."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.inference.detector import YoloFaceDetector
from service.inference.engine import FaceFinder
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.detector import hard_case_metrics
from trainer.detector.group_photos import distant_faces, group_photo
from trainer.detector.hard_case_metrics import CaseResult
from trainer.detector.labels import LabelledFace
from trainer.detector.portraits import PROFILE_YAW, Portrait, select_portraits
from trainer.detector.report import DetectorUnderTest
from trainer.detector.sheets import draw_detections
from trainer.finders import YUNET_MIN_SCORE, YuNet
from trainer.progress import track
from trainer.sheets import save
from trainer.tables import table

LARGER_INPUTS = (1280, 2560)
Scene = tuple[Pixels, list[LabelledFace]]


def write(photos: Path, bundle: Path, yunet: Path | None, count: int, output: Path) -> str:
    """Measures the hard cases, writes `report.md`, `cases.jpg` and `group.jpg`, and returns the report.

    Args:
        photos: folder of photos, searched recursively.
        yunet: ONNX file of YuNet. If set, YuNet is measured too and its faces in the unchanged photos are the ground
            truth; otherwise the bundle's own faces are.
        count: maximum number of photos with exactly one face.

    Raises:
        ValueError: no photo shows exactly one face.
    """
    bundled = YoloFaceDetector(bundle, RuntimeOptions(precision="auto"))
    detectors = {bundled.manifest.model_id: DetectorUnderTest(bundled, bundled.manifest.min_score)}
    if yunet is not None:
        detectors["YuNet"] = DetectorUnderTest(YuNet(yunet, YUNET_MIN_SCORE), YUNET_MIN_SCORE)
    labeller = list(detectors.values())[-1]
    portraits = select_portraits(photos, labeller.detector, labeller.min_score, count)
    turned = select_portraits(photos, labeller.detector, labeller.min_score, count, PROFILE_YAW)
    output.mkdir(parents=True, exist_ok=True)
    examples = hard_case_metrics.example_sheet(bundled, bundled.manifest.min_score, portraits)
    save(examples, output / "cases.jpg")
    group, distant = group_photo(portraits), distant_faces(portraits)
    save(draw_detections(group[0], bundled.detect([group[0]])[0]), output / "group.jpg")
    crowds = _crowd_table(bundle, bundled, group, distant)
    cases, yaws = _case_table(detectors, portraits), _yaw_table(detectors, [*portraits, *turned])
    text = "\n".join(["# Hard cases", "", cases, "", yaws, "", crowds, ""])
    (output / "report.md").write_text(text)
    return text


def _case_table(detectors: Mapping[str, DetectorUnderTest], portraits: Sequence[Portrait]) -> str:
    results = {
        name: hard_case_metrics.measure(tested.detector, tested.min_score, portraits)
        for name, tested in detectors.items()
    }
    return _result_table("case", results)


def _yaw_table(detectors: Mapping[str, DetectorUnderTest], portraits: Sequence[Portrait]) -> str:
    results = {
        name: hard_case_metrics.measure_by_yaw(tested.detector, tested.min_score, portraits)
        for name, tested in detectors.items()
    }
    return _result_table("unchanged photos by yaw", results)


def _result_table(title: str, results: Mapping[str, Mapping[str, CaseResult]]) -> str:
    head = [title, "photos"]
    for name in results:
        head += [f"{name}: detected", "landmarks correct"]
    rows = []
    for case, first in next(iter(results.values())).items():
        row = [case, str(first.faces)]
        for cases in results.values():
            row += [f"{cases[case].detected:.1%}", f"{cases[case].landmarks_correct:.1%}"]
        rows.append(row)
    return table(head, rows)


def _crowd_table(bundle: Path, bundled: YoloFaceDetector, group: Scene, distant: Scene) -> str:
    """Compares settings of the service on photos of many faces: detected faces and milliseconds."""
    options, min_score = RuntimeOptions(precision="auto"), bundled.manifest.min_score
    settings: dict[str, FaceFinder] = {
        "default": bundled,
        "`detector.tiling`": YoloFaceDetector(bundle, options, tiling=True),
    }
    settings |= {f"`detector.image_size={size}`": YoloFaceDetector(bundle, options, size) for size in LARGER_INPUTS}
    rows = [
        (name, *_count_and_time(detector, min_score, group), *_count_and_time(detector, min_score, distant))
        for name, detector in track(settings.items(), description="photos of many faces")
    ]
    head = ("setting", f"group photo of {len(group[1])}", "ms", f"{len(distant[1])} faces of 16-24 px in 12 MP", "ms")
    return table(head, rows)


def _count_and_time(detector: FaceFinder, min_score: float, scene: Scene) -> tuple[str, str]:
    picture, faces = scene
    started = time.perf_counter()
    share = hard_case_metrics.share_detected(detector, min_score, picture, faces)
    return f"{share * len(faces):.0f}", f"{1000 * (time.perf_counter() - started):.0f}"

"""The hard cases of a bundle, beside YuNet's, as tables and picture sheets."""

import time
from pathlib import Path

from service.inference.detector import YoloFaceDetector
from service.inference.engine import FaceFinder
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.detector import hard_cases
from trainer.detector.finders import YUNET_MIN_SCORE, YuNet
from trainer.detector.labels import LabelledFace
from trainer.detector.report import Contestant
from trainer.sheets import save
from trainer.tables import table

LARGER_INPUTS = (1280, 2560)


def write(photos: Path, bundle: Path, yunet: Path | None, count: int, output: Path) -> str:
    """Measure, write `report.md` and the pictures into `output`, and return the report.

    Raises:
        ValueError: no photo shows exactly one face.
    """
    options = RuntimeOptions(precision="auto")
    ours = YoloFaceDetector(bundle, options)
    contestants = {ours.manifest.model_id: Contestant(ours, ours.manifest.min_score)}
    if yunet is not None:
        contestants["YuNet"] = Contestant(YuNet(yunet, YUNET_MIN_SCORE), YUNET_MIN_SCORE)
    truth = list(contestants.values())[-1]
    people = hard_cases.portraits(photos, truth.finder, truth.min_score, count)
    output.mkdir(parents=True, exist_ok=True)
    working = ours.manifest.min_score
    save(hard_cases.example_sheet(ours, working, people), output / "cases.jpg")
    group, distant = hard_cases.group_photo(people), hard_cases.distant_faces(people)
    save(hard_cases.with_detections(group[0], ours.detect([group[0]])[0]), output / "group.jpg")
    ways = {"as served": ours, "`detector.tiling`": YoloFaceDetector(bundle, options, tiling=True)}
    ways |= {f"`detector.image_size={size}`": YoloFaceDetector(bundle, options, size) for size in LARGER_INPUTS}
    crowds = [(name, *_crowd(way, working, group), *_crowd(way, working, distant)) for name, way in ways.items()]
    head = ("", f"group photo of {len(group[1])}", "ms", f"{len(distant[1])} faces of 16-24 px in 12 megapixels", "ms")
    text = "\n".join(["# Hard cases", "", _cases(contestants, people), "", table(head, crowds), ""])
    (output / "report.md").write_text(text)
    return text


def _cases(contestants: dict[str, Contestant], people: list[hard_cases.Portrait]) -> str:
    measured = {
        name: hard_cases.measure(contestant.finder, contestant.min_score, people)
        for name, contestant in contestants.items()
    }
    head = ["case", "photos"]
    for name in measured:
        head += [f"{name}: found", "landmarks right"]
    rows = []
    for case, first in next(iter(measured.values())).items():
        row = [case, str(first.faces)]
        for results in measured.values():
            row += [f"{results[case].found:.1%}", f"{results[case].landmarks_right:.1%}"]
        rows.append(row)
    return table(head, rows)


def _crowd(finder: FaceFinder, min_score: float, scene: tuple[Pixels, list[LabelledFace]]) -> tuple[str, str]:
    picture, faces = scene
    began = time.perf_counter()
    share = hard_cases.share_found(finder, min_score, picture, faces)
    return f"{share * len(faces):.0f}", f"{1000 * (time.perf_counter() - began):.0f}"

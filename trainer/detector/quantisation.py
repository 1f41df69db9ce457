"""An 8-bit detector for OpenVINO: NNCF's post-training quantisation, with ranges from pictures."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.bundle import DetectorManifest, file_sha256, read_detector, write_manifest
from service.vision.geometry import letterbox
from service.vision.image import ImageLimits, decode

PICTURES = 300
GRAPH = "model.xml"


def quantise(bundle: Path, pictures: Sequence[Path], output: Path, seed: int = 0) -> DetectorManifest:
    """Write a bundle whose convolutions compute in 8 bits; the decoding of boxes and landmarks stays in float.

    Args:
        pictures: what the service will see; up to `PICTURES` of them, drawn by chance, give the ranges of activations.

    Raises:
        ValueError: there are no pictures.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # NNCF and OpenVINO report their use
    import nncf  # type: ignore[import-untyped]
    import openvino

    if not pictures:
        raise ValueError("quantisation needs pictures")
    manifest = read_detector(bundle)
    size = max(manifest.input_sizes)
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:PICTURES]

    def tensor(path: Path) -> npt.NDArray[np.float32]:
        square, _ = letterbox(decode(path.read_bytes(), ImageLimits()), size)
        scaled = (square.transpose(2, 0, 1)[None].astype(np.float32) - manifest.scaling.mean) / manifest.scaling.std
        return scaled.astype(np.float32)

    model = openvino.Core().read_model(str(bundle / manifest.graph))
    quantised = nncf.quantize(
        model,
        nncf.Dataset([pictures[index] for index in chosen], tensor),
        subset_size=len(chosen),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(patterns=[r".*/model\.\d+/(?!cv).*"], validate=False),
    )
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    openvino.save_model(quantised, output / GRAPH, compress_to_fp16=False)
    names = [GRAPH, "model.bin"]
    if manifest.landmark_stage is not None:  # stays as it is
        shutil.copyfile(bundle / manifest.landmark_stage.graph, output / manifest.landmark_stage.graph)
        names.append(manifest.landmark_stage.graph)
    described = manifest.model_copy(
        update={
            "model_id": f"{manifest.model_id}-int8",
            "graph": GRAPH,
            "files": {name: file_sha256(output / name) for name in names},
        }
    )
    write_manifest(output, described)
    return described

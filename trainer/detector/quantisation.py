"""Quantises a detector to 8 bits for OpenVINO, with NNCF's post-training quantisation."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.inference.bundle import file_sha256, read_detector, write_manifest
from service.inference.manifest import DetectorManifest
from service.vision.geometry import letterbox
from service.vision.image import ImageLimits, decode

CALIBRATION_PICTURES = 300
GRAPH = "model.xml"


def quantise(bundle: Path, pictures: Sequence[Path], output: Path, seed: int = 0) -> DetectorManifest:
    """Writes a bundle whose convolutions compute in 8 bits. The decoding of boxes and landmarks stays in float.

    Args:
        pictures: pictures like those of the service. Up to `CALIBRATION_PICTURES` of them, drawn at random, determine
            the ranges of activations.
        output: folder of the new bundle; an existing folder is replaced.

    Raises:
        ValueError: there are no pictures.
    """
    if not pictures:
        raise ValueError("there are no pictures to quantise with; name a data set with pictures in this split")
    manifest = read_detector(bundle)
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:CALIBRATION_PICTURES]
    quantised = _quantised(bundle, manifest, [pictures[index] for index in chosen])
    return _write_bundle(quantised, bundle, manifest, output)


def _quantised(bundle: Path, manifest: DetectorManifest, pictures: list[Path]) -> Any:
    """Returns the OpenVINO model with quantised convolutions."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # NNCF and OpenVINO report usage
    import nncf  # type: ignore[import-untyped]
    import openvino

    size = max(manifest.input_sizes)

    def tensor(path: Path) -> npt.NDArray[np.float32]:
        square, _ = letterbox(decode(path.read_bytes(), ImageLimits()), size)
        scaled = (square.transpose(2, 0, 1)[None].astype(np.float32) - manifest.scaling.mean) / manifest.scaling.std
        return scaled.astype(np.float32)

    return nncf.quantize(
        openvino.Core().read_model(str(bundle / manifest.graph)),
        nncf.Dataset(pictures, tensor),
        subset_size=len(pictures),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(patterns=[r".*/model\.\d+/(?!cv).*"], validate=False),
    )


def _write_bundle(quantised: Any, bundle: Path, manifest: DetectorManifest, output: Path) -> DetectorManifest:
    import openvino

    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    openvino.save_model(quantised, output / GRAPH, compress_to_fp16=False)
    names = [GRAPH, "model.bin"]
    for stage in (manifest.landmark_stage, manifest.first_look):  # the smaller graphs are not quantised
        if stage is not None:
            shutil.copyfile(bundle / stage.graph, output / stage.graph)
            names.append(stage.graph)
    described = manifest.model_copy(
        update={
            "model_id": f"{manifest.model_id}-int8",
            "graph": GRAPH,
            "files": {name: file_sha256(output / name) for name in names},
        }
    )
    write_manifest(output, described)
    return described

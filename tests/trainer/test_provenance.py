"""The terms of a model follow from those of its pictures, initial weights and teachers."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from service.inference.bundle import file_sha256, read_embedder
from service.inference.provenance import NOT_STATED, Origin, Use, combined_terms, combined_use
from service.runtime.settings import BUNDLES
from tests.trainer.small_embedder import CONFIG
from trainer.__main__ import app
from trainer.configuration import ConfigError
from trainer.embedder import training
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.config import EmbedderConfig
from trainer.provenance import RunOrigins, complete, load_stated, of_checkpoint, origins_of, write

ORIGINS = st.lists(
    st.builds(Origin, name=st.sampled_from("abc"), terms=st.just("MIT"), use=st.sampled_from(Use)), min_size=1
)
FAIRFACE = Origin(name="FairFace", terms="CC BY 4.0", use=Use.ANY)
CELEBA = Origin(name="CelebA", terms="non-commercial", use=Use.RESEARCH)


@given(first=ORIGINS, second=ORIGINS)
def test_a_model_permits_no_more_than_each_of_its_origins(first: list[Origin], second: list[Origin]) -> None:
    order = list(Use)  # the most restrictive first
    both = combined_use([*first, *second])
    assert order.index(both) == min(order.index(combined_use(first)), order.index(combined_use(second)))
    assert both == combined_use([*second, *first])
    assert all(order.index(both) <= order.index(origin.use) for origin in first)


def test_terms_name_the_origins_that_restrict_the_use() -> None:
    unknown = Origin(name="own pictures", terms=NOT_STATED)
    yolo = Origin(name="YOLO", terms="AGPL-3.0", use=Use.COPYLEFT)
    assert combined_terms([FAIRFACE, CELEBA, unknown]) == (
        "research and evaluation only, because of CelebA (non-commercial)"
    )
    assert combined_terms([FAIRFACE, unknown]) == "unknown, because of own pictures (not stated)"
    assert combined_terms([FAIRFACE]) == "any use under the terms of FairFace (CC BY 4.0)"
    assert combined_terms([FAIRFACE, yolo]).startswith("any use, with the source code of works that are based on YOLO")
    assert combined_use([]) is Use.UNKNOWN
    assert combined_terms([]) == "unknown, because of unknown origins"


def test_weights_of_a_bundle_pass_on_its_origins(tmp_path: Path) -> None:
    shipped = read_embedder(BUNDLES / "embedder").provenance.origins
    assert {origin.use for origin in shipped} == {Use.RESEARCH, Use.ANY}
    copy = tmp_path / "renamed.onnx"
    shutil.copyfile(BUNDLES / "embedder" / "model.onnx", copy)
    for initial in (BUNDLES / "embedder", BUNDLES / "embedder" / "model.onnx", copy):
        run = origins_of(initial, [initial])
        assert run.origins == shipped
        assert run.initialised_from == "mobilefacenet-128-1, changed by further training"
        assert complete(None, run)["use"] is Use.RESEARCH
    assert origins_of(None).initialised_from == "random weights"


def test_published_weights_of_a_library_are_unknown_until_their_terms_are_stated() -> None:
    config = EmbedderConfig.model_validate({**CONFIG.model_dump(), "backbone": "resnet18", "pretrained": True})
    run = origins_of(None, published=config.published_weights)
    assert run.initialised_from == "published weights of resnet18, changed by further training"
    assert "published weights of resnet18 (not stated)" in complete(None, run)["terms"]
    assert CONFIG.published_weights is None


def test_bundle_of_an_earlier_release_has_unknown_use(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLES / "embedder-fairface", bundle, copy_function=shutil.copyfile)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for key in ("use", "origins"):
        manifest["provenance"].pop(key, None)
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "model_id": "earlier-1"}))
    [origin] = origins_of(bundle).origins
    assert (origin.name, origin.use) == ("earlier-1", Use.UNKNOWN)


def test_a_file_without_a_manifest_is_unknown_unless_the_user_states_its_terms(tmp_path: Path) -> None:
    weights = tmp_path / "weights.onnx"
    weights.write_bytes(b"weights")
    run = origins_of(None, [weights])
    assert complete(None, run)["terms"] == (
        f"unknown, because of own pictures (not stated); a file with the SHA-256 {file_sha256(weights)} (not stated)"
    )
    stated = tmp_path / "stated.yaml"
    stated.write_text(
        "data: [{name: FairFace, terms: CC BY 4.0, use: any}]\nweights: [{name: SFace, terms: Apache-2.0, use: any}]"
    )
    values = complete(load_stated(stated), run)
    assert values["terms"] == "any use under the terms of FairFace (CC BY 4.0); SFace (Apache-2.0)"
    assert values["data"] == ["FairFace"]


@pytest.mark.parametrize(
    "text", ["", "[]", "data: []", "data: x", "terms: free", "data: [{name: x}]", "data: [{name: x, terms: y, use: z}]"]
)
def test_incomplete_statement_is_rejected(text: str, tmp_path: Path) -> None:
    (tmp_path / "stated.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"a provenance has the keys data .* use \(research, unknown, copyleft, any\)"
    ):
        load_stated(tmp_path / "stated.yaml")


def test_export_writes_the_terms_of_the_run(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.parents[1], run)
    assert of_checkpoint(run / "1-batch-hard" / "best.ckpt").initialised_from == "random weights"
    (run / "origins.json").unlink()
    assert of_checkpoint(run / "1-batch-hard" / "best.ckpt").files == ("unknown weights",)
    write(RunOrigins(initialised_from="random weights", origins=(FAIRFACE,)), run)
    (tmp_path / "own.yaml").write_text("data: [{name: staff photos, terms: consent, use: any}]")
    words = ["export", "--checkpoint", str(run), "--model-id", "mine-1", "--provenance", str(tmp_path / "own.yaml")]
    result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.exception
    expected = "any use under the terms of staff photos (consent); FairFace (CC BY 4.0)"
    assert f"terms: {expected}" in result.output
    provenance = read_embedder(tmp_path / "bundle").provenance
    assert (provenance.terms, provenance.use, provenance.initialised_from) == (expected, Use.ANY, "random weights")


def test_another_run_in_the_folder_does_not_change_the_origins(
    trained: Path, identity_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.parents[1], run)
    before = (run / "origins.json").read_text()
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    config = CONFIG.model_copy(update={"embedding_dim": 128})
    with pytest.raises(ConfigError, match="contains a run with other"):
        training.train(config, crops, (), tmp_path, run, BUNDLES / "embedder-permissive")
    assert (run / "origins.json").read_text() == before


def test_folder_with_a_manifest_of_something_else_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "weights.onnx").write_bytes(b"weights")
    (tmp_path / "manifest.json").write_text('{"name": "a web application"}')
    assert origins_of(tmp_path / "weights.onnx").origins == ()


def test_folder_of_an_unfinished_run_is_not_exported(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.parents[1], run)
    (run / f"1-{CONFIG.stages[0].name}" / "finished.json").unlink()
    for folder in (run, tmp_path):
        words = ["export", "--checkpoint", str(folder), "--model-id", "mine-1", "--output", str(tmp_path / "bundle")]
        assert "not the folder of a finished training run" in str(CliRunner().invoke(app, words).exception)

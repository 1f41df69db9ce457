"""`identity-trainer cohort`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import BUNDLE, CONFIGS, WORK, Identities, Work


def cohort(
    identities: Identities,
    unlabelled: Annotated[
        Path,
        typer.Option(help="Folder or zip archive of aligned crops of unknown people of many kinds and ages."),
    ],
    output: Annotated[Path, typer.Option(help="Folder for a copy of the bundle with the cohort.")],
    model_id: Annotated[str, typer.Option(help="Permanent name of the model with the cohort.")],
    unlabelled_folder: Annotated[str, typer.Option(help="Subfolder of --unlabelled to use.")] = ".",
    bundle: Annotated[Path | None, typer.Option(help="Embedder bundle. Unset: the shipped one.")] = None,
    data: Annotated[
        str, typer.Option(help="Description of the unlabelled pictures and their terms, for the manifest.")
    ] = "own pictures",
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file that trained a model whose bundle does not record its split."),
    ] = None,
    settings: Annotated[Path, typer.Option(help="YAML file with the settings.")] = CONFIGS / "cohort.yaml",
    work: Work = WORK,
) -> None:
    """Make false matches about equally frequent among all kinds of faces, without any label of a group.

    Embeddings of children, or of people whose like was rare in the training, lie close together, so that one threshold
    gives them more false matches. The cohort subtracts the mean of its neighbourhood from each embedding. It is fitted
    on the training people of --identities and on unlabelled faces of many kinds; fitting takes some minutes.

    The result is another model: calibrate it. Collections of the model without the cohort are still served, and
    POST /collections/{name}/model-migration converts their stored embeddings without pictures.
    """
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.embedder import cohort as fitting
    from trainer.embedder import cohort_record
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.cohort_config import CohortConfig
    from trainer.embedder.embedding import embed_crops
    from trainer.embedder.training_people import recorded_split
    from trainer.options import require_model_id

    require_model_id(model_id)
    chosen = CohortConfig.load(settings)
    source = FaceEmbedder(bundle or BUNDLE, RuntimeOptions())
    embedder = source.uncorrected() or source
    if embedder.manifest.cohort is not None:
        raise ConfigError(f"{bundle or BUNDLE} has a cohort already, and no name for the model without it")
    labelled = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    split = recorded_split(bundle or BUNDLE, embedder.manifest, config, labelled.identities)
    folder = unpack([unlabelled], work / "unlabelled") / unlabelled_folder
    others = load_aligned_crops(folder, None, work / "cache", labelled=False)
    people, held_out = cohort_record.embed_people(embedder, labelled, split)
    faces = fitting.Faces(people, embed_crops(embedder, others, range(len(others)))[0])
    fitting.require_enough(faces, chosen)
    fitted = fitting.fit(faces, chosen)
    cohort_record.record(bundle or BUNDLE, output, embedder.manifest, fitted, model_id, chosen, data)
    typer.echo(cohort_record.comparison(fitted, held_out))
    typer.echo(f"written into {output}, without a calibration")
    typer.echo(f"next: identity-trainer calibrate --identities … --bundle {output}")

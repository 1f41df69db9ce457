"""`identity-trainer slim`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import WORK, Identities, Work


def slim(
    identities: Identities,
    weights: Annotated[Path, typer.Option(help="Published SFace as ONNX (OpenCV Zoo), float or 8-bit weights.")],
    output: Annotated[Path, typer.Option(help="Folder for slim.ckpt.")] = Path("runs/slim"),
    pictures: Annotated[
        int, typer.Option(min=100, help="Pictures on which the networks are compared; 7 MB of memory each.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the choice of pictures.")] = 0,
    work: Work = WORK,
) -> None:
    """Make a faster network of published SFace weights, as initial weights for training.

    Removes the channels that the others predict best, and adapts the weights of the rest. The result is less accurate
    until it has been trained: `identity-trainer train --config configs/train-slim.yaml --initial slim.ckpt`. It
    contains the whole network too, whose feature maps the training compares. Takes two minutes on two cores.
    """
    import numpy as np
    import torch

    from trainer.archives import unpack
    from trainer.embedder import slimming
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.augmentation import centre_tensor
    from trainer.embedder.backbones.mobilenet_v1 import SLIM
    from trainer.embedder.backbones.sface import load_sface

    published = load_sface(weights)
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache", labelled=False)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(crops))[:pictures])
    batches = [
        centre_tensor(torch.from_numpy(crops.pictures[rows])) for rows in np.array_split(chosen, -(-len(chosen) // 64))
    ]
    slimmed = slimming.slim(published, SLIM, batches, seed)
    network = slimmed.network
    output.mkdir(parents=True, exist_ok=True)
    state = {f"encoder.{name}": value for name, value in network.state_dict().items()}
    predictors = {number: (item.weight.data, item.bias) for number, item in slimmed.predictors.items()}
    features = {"published": published.state_dict(), "predictors": predictors}
    torch.save({"state_dict": state, "hyper_parameters": {}} | features, output / "slim.ckpt")
    before, after = (sum(value.numel() for value in net.parameters()) / 1e6 for net in (published, network))
    typer.echo(f"{before:.1f} M parameters became {after:.1f} M")
    typer.echo(f"written: {output / 'slim.ckpt'}")

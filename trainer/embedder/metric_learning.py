"""Builds losses and miners of pytorch-metric-learning (Kevin Musgrave, MIT) by their names."""

import difflib
import inspect
from types import ModuleType
from typing import Any, cast

from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.loss_config import MetricLearningTerm, NamedConfig

KEY = "losses.metric_learning"


class MetricLoss(nn.Module):
    """A loss with an optional miner; both receive (N, D) embeddings and (N,) numbers of people."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.miner is None:
            return cast("Tensor", self.loss(embeddings, labels))
        return cast("Tensor", self.loss(embeddings, labels, self.miner(embeddings, labels)))


def build_metric_loss(term: MetricLearningTerm, people: int, embedding_dim: int) -> MetricLoss:
    """Returns a loss with its miner.

    Raises:
        ConfigError: The library has no such class, or the class rejects its arguments.
    """
    sizes = {"num_classes": people, "embedding_size": embedding_dim}
    loss = _build(losses, term, KEY, sizes)
    return MetricLoss(loss, None if term.miner is None else _build(miners, term.miner, f"{KEY}.miner", {}))


def _build(module: ModuleType, named: NamedConfig, key: str, sizes: dict[str, int]) -> nn.Module:
    known = [name for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)]
    if named.name not in known:
        similar = difflib.get_close_matches(named.name, known, 1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise ConfigError(
            f"{key}: pytorch-metric-learning has no {named.name!r}{hint} (it has {', '.join(sorted(known))})"
        )
    kind = getattr(module, named.name)
    # Classes pass arguments that they do not name on to their base classes.
    accepted = {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}
    arguments: dict[str, Any] = {name: size for name, size in sizes.items() if name in accepted}
    try:
        return cast("nn.Module", kind(**arguments | named.arguments))
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{key}: {named.name}: {error}") from None

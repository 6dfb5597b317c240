"""How much of what an embedder knows already is kept, and how fast each part of it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.embedder import Embedder
from indexer.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Transfer:
    """Which parts learn, and how fast.

    The head is the embedder's projection, its colours, and the recipe's own parameters. Rates of their own for the
    layers: Howard and Ruder 2018, "Universal Language Model Fine-tuning" (arXiv:1801.06146), section 3.2.

    Attributes:
        frozen: leave the backbone as it is, its batch-norm statistics included: only the head learns.
        frozen_norms: leave the batch-norm statistics as they are, while the weights learn; for small or few batches.
        layer_decay: each stage of the backbone learns at this share of the next one's rate; 1 makes them equal.
        head_learning_rate: the head's highest rate; the backbone's if None.
    """

    frozen: bool = False
    frozen_norms: bool = False
    layer_decay: float = 1.0
    head_learning_rate: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ArgumentError("layer_decay is the share that a stage learns of the next one's rate: above 0, up to 1")
        if self.head_learning_rate is not None and self.head_learning_rate <= 0:
            raise ArgumentError("head_learning_rate must be positive")

    def prepare(self, embedder: Embedder, recipe: nn.Module) -> None:
        """Say of every weight whether it learns; ArgumentError if none does."""
        embedder.requires_grad_(True)
        embedder.backbone.requires_grad_(not self.frozen)
        learning = [weights for part in (embedder, recipe) for weights in part.parameters() if weights.requires_grad]
        if not any(weights.numel() for weights in learning):
            raise ArgumentError(
                "a frozen backbone leaves nothing to learn: give the embedder a new head (dim), "
                "or choose a recipe with parameters of its own"
            )

    def set_modes(self, embedder: Embedder, recipe: nn.Module) -> None:
        """Put everything that learns into training mode, and what stays as it is into the mode it is used in."""
        embedder.train()
        recipe.train()
        if self.frozen:
            embedder.backbone.eval()
        elif self.frozen_norms:
            for module in embedder.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def groups(
        self, embedder: Embedder, recipe: nn.Module, learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return the optimiser's groups, each with its highest rate as ``peak``."""
        found = stages(embedder.backbone)
        parts = [
            (modules, learning_rate * self.layer_decay ** (len(found) - 1 - depth))
            for depth, modules in enumerate(found)
        ]
        head = [part for part in embedder.children() if part is not embedder.backbone]
        parts.append(([*head, recipe], self.head_learning_rate or learning_rate))
        return [
            {"params": params, "peak": peak, "lr": peak, "weight_decay": decay}
            for modules, peak in parts
            for params, decay in _decayed_apart(modules, weight_decay)
            if params
        ]


def stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """Return the parts of a backbone that have weights, from the image upwards; a norm belongs to what it follows."""
    found: list[list[nn.Module]] = []
    for module in backbone.children():
        if not any(True for _ in module.parameters()):
            continue
        if isinstance(module, _BatchNorm) and found:
            found[-1].append(module)
        else:
            found.append([module])
    return found


def _decayed_apart(modules: list[nn.Module], weight_decay: float) -> list[tuple[list[nn.Parameter], float]]:
    """Norms and biases do not decay: they have no scale to lose."""
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [([p for p in weights if p.ndim > 1], weight_decay), ([p for p in weights if p.ndim <= 1], 0.0)]

"""What a checkpoint's recipe has learned beside the embedder, and its score at query time."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.recipes import RECIPES, Recipe
from engine.weights import checkpoint_file, read_checkpoint, without_prefix
from indexer.errors import WeightsError
from indexer.search import Score


def load_recipe(weights: str | os.PathLike[str], *, dim: int) -> Recipe | None:
    """Return the recipe that made these weights, as it was when they were written; None if they tell of none.

    Args:
        weights: as for ``load_embedder``.
        dim: of their embedder.

    Raises:
        WeightsError: the file cannot be read, or its recipe is unknown, damaged or of another dim.
    """
    path = checkpoint_file(weights)
    if path is None:
        return None
    card, state = read_checkpoint(path, prefix="recipe.")
    name = card.get("recipe")
    if name is None:
        return None
    if name not in list(RECIPES):
        raise WeightsError(f"{path}: taught by the recipe {name!r}, which this version does not know: upgrade it")
    try:
        recipe = RECIPES[name](dim=dim, **card.get("training", {}).get("options", {}))
        recipe.load_state_dict(without_prefix(state, "recipe."))
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: the weights do not fit their recipe {name!r} ({reason})") from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise WeightsError(f"{path}: the recipe {name!r} has weights that are not finite: train it again")
    return recipe.eval().requires_grad_(False)


def load_score(weights: str | os.PathLike[str], *, dim: int) -> Score | None:
    """Return the learned score of these weights; None if cosine is theirs. Arguments and errors of ``load_recipe``."""
    recipe = load_recipe(weights, dim=dim)
    return learned_score(recipe) if recipe is not None and recipe.learned_score else None


def learned_score(recipe: Recipe) -> Score:
    """Return the score of ``recipe`` as a gallery asks for it; the recipe stays as it is.

    A product of matrices gives equal rows scores that differ in their last digit, by where they stand. Made in float64
    and rounded, they are equal, and a tie between classes stays one. A shortlist is short: the CPU is fast enough.
    """
    exact = copy.deepcopy(recipe).to("cpu", torch.float64).eval()

    @torch.inference_mode()
    def score(query: NDArray[np.float32], prototypes: NDArray[np.float32]) -> NDArray[Any]:
        queries, support = (torch.from_numpy(part.astype(np.float64)) for part in (query[np.newaxis], prototypes))
        return exact.score(queries, support)[0].float().numpy()

    return score

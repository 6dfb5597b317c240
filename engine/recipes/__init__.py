"""Ways to teach an embedder, a file each. Adding one is a file and a line here."""

from __future__ import annotations

from engine.recipes.contrastive import Contrastive
from engine.recipes.recipe import Recipe

RECIPES: dict[str, type[Recipe]] = {"contrastive": Contrastive}

__all__ = ["RECIPES", "Contrastive", "Recipe"]

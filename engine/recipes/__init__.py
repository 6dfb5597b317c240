"""Ways to teach an embedder, a file each. Adding one is a file and a line here."""

from __future__ import annotations

from engine.recipes.classification import Classification
from engine.recipes.contrastive import Contrastive
from engine.recipes.distillation import Distillation
from engine.recipes.gaussian_prototypical import GaussianPrototypical
from engine.recipes.matching import Matching
from engine.recipes.prototypical import Prototypical
from engine.recipes.recipe import Recipe
from engine.recipes.relation import Relation
from engine.recipes.siamese import Siamese

RECIPES: dict[str, type[Recipe]] = {
    "contrastive": Contrastive,
    "siamese": Siamese,
    "prototypical": Prototypical,
    "gaussian_prototypical": GaussianPrototypical,
    "matching": Matching,
    "relation": Relation,
    "classification": Classification,
    "distillation": Distillation,
}

__all__ = [
    "RECIPES",
    "Classification",
    "Contrastive",
    "Distillation",
    "GaussianPrototypical",
    "Matching",
    "Prototypical",
    "Recipe",
    "Relation",
    "Siamese",
]

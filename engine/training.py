"""Teaching an embedder: one loop for all recipes, seeded, and continued where it was interrupted."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
import torchvision

from engine.batches import Progress
from engine.embedder import SMALLEST, Embedder
from engine.preprocessing import Preprocessing
from engine.recipes import RECIPES, Recipe
from engine.runtime import choose_device, mixed_precision
from engine.training_set import Mixture, TrainingSet, read_sets
from engine.weights import load_embedder, save_checkpoint
from indexer.errors import ArgumentError, WeightsError
from indexer.folder import written_whole
from indexer.sources import Failure

SAVE_SECONDS = 60.0
LossProgress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did: ``losses`` holds the mean loss of each hundredth of it."""

    out: str
    steps: int
    images: int
    classes: int
    losses: list[float]
    failed: list[Failure] = field(default_factory=list)
    seconds: float = 0.0


def train(
    data: str | os.PathLike[str] | TrainingSet | Sequence[TrainingSet],
    out: str | os.PathLike[str],
    *,
    recipe: str = "contrastive",
    options: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = "imagenet",
    backbone: str = "resnet101",
    size: int = 224,
    steps: int = 1000,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    seed: int = 0,
    device: str | None = None,
    on_reading: Progress | None = None,
    on_step: LossProgress | None = None,
) -> TrainingReport:
    """Teach an embedder the classes of ``data`` and write it to ``out``.

    Interrupted, it goes on from the last minute's state when called again in the same way; a finished run is not
    repeated, and a state left by a different call is refused.

    Args:
        data: a folder, a class per sub-folder; or a ``TrainingSet`` that says more of it; or several.
        out: the safetensors file to write.
        recipe: a name in ``RECIPES``.
        options: the recipe's own arguments.
        weights: what to start from, as for ``load_embedder``; None starts from nothing.
        backbone: the network to start with when ``weights`` is None.
        size: side of its input in pixels when ``weights`` is None.
        steps: batches to learn from.
        learning_rate: the highest one, after warming up; if None, 1e-3 from nothing and 1e-4 from weights.
        weight_decay: of AdamW.
        seed: of everything drawn at random.
        device: "cpu", "cuda", "mps"; the best there is if None.
        on_reading: called with ("reading", done, total) while images are read.
        on_step: called with (step, steps, loss) after each step.

    Raises:
        SourceError, WeightsError, ArgumentError: before anything is learnt.
    """
    started = time.monotonic()
    out = Path(out)
    if steps < 1:
        raise ArgumentError("steps must be at least 1")
    if not out.absolute().parent.is_dir():
        raise ArgumentError(f"{out}: the folder to write to does not exist")
    torch.manual_seed(seed)
    target = choose_device(device)
    embedder = _starting_point(weights, backbone, size).to(target).train().requires_grad_(True)
    teaching = make_recipe(recipe, embedder.dim, options or {}).to(target)
    images = read_sets(_listed(data), embedder.preprocessing, teaching.sampler, on_reading)
    settings = {
        "recipe": recipe,
        "options": dict(options or {}),
        "weights": None if weights is None else os.fspath(weights),
        "steps": steps,
        "learning_rate": learning_rate or (1e-3 if weights is None else 1e-4),
        "weight_decay": weight_decay,
        "seed": seed,
        "data": images.description(),
    }
    run = _Run(embedder, teaching, images, settings, out)
    losses = run.finish(on_step)
    card = {"recipe": recipe, "training": {**settings, "loss": losses, "versions": _versions()}}
    save_checkpoint(out, embedder, teaching, card)
    run.state_file.unlink(missing_ok=True)
    return TrainingReport(
        out=str(out),
        steps=steps,
        images=images.count,
        classes=images.classes,
        losses=losses,
        failed=images.failed,
        seconds=round(time.monotonic() - started, 3),
    )


def _listed(data: str | os.PathLike[str] | TrainingSet | Sequence[TrainingSet]) -> list[TrainingSet]:
    if isinstance(data, str | os.PathLike):
        return [TrainingSet(data)]
    return [data] if isinstance(data, TrainingSet) else list(data)


def make_recipe(name: str, dim: int, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe of that name; ArgumentError if there is none or an option is not one of its own."""
    if name not in RECIPES:
        raise ArgumentError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    try:
        return RECIPES[name](dim=dim, **options)
    except TypeError as error:
        raise ArgumentError(f"recipe {name}: {error}") from error


def _starting_point(weights: str | os.PathLike[str] | None, backbone: str, size: int) -> Embedder:
    if weights is not None:
        return load_embedder(weights)
    if size < SMALLEST.get(backbone, 32):
        raise ArgumentError(f"size {size}: the network needs at least {SMALLEST.get(backbone, 32)} pixels")
    return Embedder(backbone, preprocessing=Preprocessing.whole(size))


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}


class _Run:
    """The steps of one training run, and its state on disk beside the file it will write.

    Batch and views of step ``i`` are drawn from seeds made of the run's seed and ``i`` alone, so that a continued run
    sees what an unbroken one would have seen.
    """

    def __init__(
        self, embedder: Embedder, recipe: Recipe, images: Mixture, settings: dict[str, Any], out: Path
    ) -> None:
        self.embedder, self.recipe, self.images, self.settings = embedder, recipe, images, settings
        self.state_file = out.with_name(out.name + ".unfinished")
        self.steps: int = settings["steps"]
        self.modules = torch.nn.ModuleList([embedder, recipe])
        self.optimizer = torch.optim.AdamW(_decayed_apart(self.modules, settings["weight_decay"]))
        self.step = 0
        self.losses: list[float] = []
        self._restore()

    def finish(self, on_step: LossProgress | None) -> list[float]:
        """Take the steps that are left; return the mean loss of each hundredth of the run."""
        saved = time.monotonic()
        try:
            while self.step < self.steps:
                loss = self._take_step()
                if on_step:
                    on_step(self.step, self.steps, loss)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self._save()
            raise
        portion = max(1, self.steps // 100)
        means = [self.losses[i : i + portion] for i in range(0, len(self.losses), portion)]
        return [round(sum(losses) / len(losses), 4) for losses in means]

    def _take_step(self) -> float:
        device = self.embedder.device
        seed = Random(f"{self.settings['seed']}/{self.step}")
        batch = self.images.batch(seed, device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings["learning_rate"] * _schedule(self.step, self.steps)
        with mixed_precision(device):
            loss = self.recipe.loss(self.embedder, batch)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.losses.append(loss.item())
        return self.losses[-1]

    def _save(self) -> None:
        state = {
            "settings": json.dumps(self.settings, sort_keys=True),
            "step": self.step,
            "losses": self.losses,
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with written_whole(self.state_file) as file:
            torch.save(state, file)

    def _restore(self) -> None:
        if not self.state_file.exists():
            return
        try:
            state = torch.load(self.state_file, map_location=self.embedder.device, weights_only=True)
        except Exception as error:
            raise WeightsError(f"{self.state_file}: cannot be continued from, delete it to start anew") from error
        if state["settings"] != json.dumps(self.settings, sort_keys=True):
            raise ArgumentError(
                f"{self.state_file} is of a run with other settings: repeat that command, or delete the file"
            )
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses = state["step"], state["losses"]


def _schedule(step: int, steps: int) -> float:
    """The share of the highest learning rate: a linear warm-up over a twentieth, then half a cosine down to 0."""
    warm_up = max(1, min(steps // 20, 500))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _decayed_apart(modules: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Norms and biases do not decay: they have no scale to lose."""
    parameters = [p for p in modules.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]

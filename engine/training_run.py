"""The steps of one training run, and its state on disk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engine.embedder import Embedder
from engine.recipes import Recipe
from engine.runtime import mixed_precision
from engine.training_set import Mixture
from engine.transfer import Transfer
from engine.validation import Validation
from indexer.errors import ArgumentError, WeightsError
from indexer.folder import written_whole

SAVE_SECONDS = 60.0
LossProgress = Callable[[int, int, float], None]


class Run:
    """Takes the steps, measures now and then, stops when there is no more to gain, and can be continued.

    Batch and views of step ``i`` are drawn from seeds made of the run's seed and ``i`` alone, so that a continued run
    sees what an unbroken one would have seen.

    Attributes:
        losses: of each step.
        measured: (step, accuracy) on the validation classes.
    """

    def __init__(
        self,
        embedder: Embedder,
        recipe: Recipe,
        images: Mixture,
        *,
        validation: Validation | None,
        transfer: Transfer,
        settings: dict[str, Any],
        out: Path,
    ) -> None:
        self.embedder, self.recipe, self.images, self.validation = embedder, recipe, images, validation
        self.transfer, self.settings = transfer, settings
        self.state_file = out.with_name(out.name + ".unfinished")
        self.steps: int = settings["steps"]
        self.modules = torch.nn.ModuleList([embedder, recipe])
        transfer.prepare(embedder, recipe)
        transfer.set_modes(embedder, recipe)
        self.optimizer = torch.optim.AdamW(
            transfer.groups(embedder, recipe, settings["learning_rate"], settings["weight_decay"])
        )
        # Buffers too: the averaged weights need batch-norm statistics that fit them.
        self.average = (
            AveragedModel(self.modules, multi_avg_fn=get_ema_multi_avg_fn(settings["average"]), use_buffers=True)
            if settings["average"]
            else None
        )
        self.step = 0
        self.losses: list[float] = []
        self.measured: list[tuple[int, float]] = []
        self._best: dict[str, Tensor] | None = None
        self._restore()

    @property
    def learned(self) -> torch.nn.ModuleList:
        """The embedder and the recipe as they are to be used: averaged, if the run averages."""
        return self.modules if self.average is None else cast(torch.nn.ModuleList, self.average.module)

    def finish(self, on_step: LossProgress | None) -> None:
        """Take the steps that are left; embedder and recipe then hold the weights to keep, the best ones measured."""
        saved = time.monotonic()
        try:
            if not self.step:
                self._measure()
            while self.step < self.steps and not self._enough():
                loss = self._take_step()
                if self._due():
                    self._measure()
                if on_step:
                    on_step(self.step, self.steps, loss)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self._save()
            raise
        self.modules.load_state_dict(self._best or self.learned.state_dict())

    def _take_step(self) -> float:
        device, parts = self.embedder.device, self.settings["accumulate"]
        seed = Random(f"{self.settings['seed']}/{self.step}")
        share = _schedule(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.optimizer.zero_grad()
        total = 0.0
        for _ in range(parts):
            batch = self.images.batch(seed, device)
            with mixed_precision(device):
                loss = self.recipe.loss(self.embedder, batch) / parts
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.modules)
        self.step += 1
        self.losses.append(total)
        return total

    # -- validation --------------------------------------------------------------------------------------------

    def _due(self) -> bool:
        every = max(1, self.steps // 20)
        return self.step % every == 0 or self.step == self.steps

    def _measure(self) -> None:
        if self.validation is None:
            return
        embedder, recipe = cast(tuple[Embedder, Recipe], tuple(self.learned))
        accuracy = self.validation.accuracy(embedder, recipe)
        self.transfer.set_modes(self.embedder, self.recipe)
        if accuracy > max((before for _, before in self.measured), default=-1.0):
            self._best = {name: tensor.clone() for name, tensor in self.learned.state_dict().items()}
        self.measured.append((self.step, accuracy))

    def _enough(self) -> bool:
        """Whether the last ``patience`` measurements have not been better than the best before them."""
        accuracies = [accuracy for _, accuracy in self.measured]
        return len(accuracies) - 1 - _first_best(accuracies) >= self.settings["patience"]

    # -- state -------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        state = {
            "settings": json.dumps(self.settings, sort_keys=True),
            "step": self.step,
            "losses": self.losses,
            "measured": self.measured,
            "best": self._best,
            "modules": self.modules.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
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
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step, self.losses, self.measured = state["step"], state["losses"], state["measured"]
        self._best = state["best"]


def _first_best(accuracies: list[float]) -> int:
    return accuracies.index(max(accuracies)) if accuracies else -1


def _schedule(step: int, steps: int) -> float:
    """The share of the highest learning rate: a linear warm-up over a twentieth, then half a cosine down to 0."""
    warm_up = max(1, min(steps // 20, 500))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

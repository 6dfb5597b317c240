"""Teaching an embedder: one call for all recipes, seeded, continued where it was interrupted, and written down."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine.batches import Balanced, Progress, Sampler, read_folder
from engine.embedder import Embedder, check_size
from engine.episodes import Episodes
from engine.preprocessing import Preprocessing
from engine.recipes import RECIPES, Recipe
from engine.runtime import choose_device
from engine.training_record import versions, write_record
from engine.training_run import LossProgress, Run
from engine.training_set import TrainingSet, read_sets
from engine.transfer import Transfer
from engine.validation import Validation
from engine.weights import load_embedder, save_checkpoint
from indexer.errors import ArgumentError
from indexer.sources import Failure

Data = str | os.PathLike[str] | TrainingSet


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did.

    Attributes:
        out: the weights file.
        record: the page that shows the run; a JSON file of the same name lies beside it.
        steps: batches learnt from; fewer than asked for if it stopped early.
        images: in the training sets.
        classes: in the training sets.
        losses: the mean loss of each hundredth of the run.
        accuracy: on the validation classes, of the weights that were kept; None without validation.
        failed: files that could not be used.
        seconds: it took.
    """

    out: str
    record: str
    steps: int
    images: int
    classes: int
    losses: list[float]
    accuracy: float | None = None
    failed: list[Failure] = field(default_factory=list)
    seconds: float = 0.0


def train(
    data: Data | Sequence[TrainingSet],
    out: str | os.PathLike[str],
    *,
    recipe: str = "contrastive",
    options: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = "imagenet",
    backbone: str = "resnet101",
    size: int | None = None,
    dim: int | None = None,
    transfer: Transfer | None = None,
    validation: Data | None = None,
    patience: int = 5,
    steps: int = 1000,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    accumulate: int = 1,
    average: float = 0.0,
    seed: int = 0,
    device: str | None = None,
    on_reading: Progress | None = None,
    on_step: LossProgress | None = None,
) -> TrainingReport:
    """Teach an embedder the classes of ``data`` and write it to ``out``.

    Interrupted, it goes on from the last minute's state when called again in the same way; a finished run is not
    repeated, and a state left by a different call is refused. Beside ``out`` it leaves a record of the run, with its
    history, and a page with its curves.

    Args:
        data: a folder, a class per sub-folder; or a ``TrainingSet`` that says more of it; or several.
        out: the safetensors file to write.
        recipe: a name in ``RECIPES``.
        options: the recipe's own arguments.
        weights: what to start from, as for ``load_embedder``; None starts from nothing.
        backbone: the network to start with when ``weights`` is None.
        size: side of the network's input in pixels; if None that of ``weights``, or 224 from nothing.
        dim: length of an embedding that a new head learns; if None, that of ``weights``, or the backbone's features.
        transfer: which parts learn, and how fast; all alike if None.
        validation: a folder of classes that are not learnt from; 20 times a run it is measured how well they are known
            from one image each, and the best weights are kept.
        patience: stop after so many measurements without a better one.
        steps: batches to learn from.
        learning_rate: the highest one, after warming up; if None, 1e-3 from nothing and 1e-4 from weights.
        weight_decay: of AdamW.
        accumulate: batches whose gradients are added up before a step: memory of one, gradient of several.
        average: decay of an exponential moving average of the weights, which is then what is kept; 0 keeps the last.
        seed: of everything drawn at random.
        device: "cpu", "cuda", "mps"; the best there is if None.
        on_reading: called with ("reading", done, total) while images are read, and ("imprinting", done, total) while a
            recipe has the embedder look at what each class shows.
        on_step: called with (step, steps, loss) after each step.

    Raises:
        SourceError, WeightsError, ArgumentError: before anything is learnt.
    """
    started = time.monotonic()
    out, transfer = Path(out), transfer or Transfer()
    _check(out, steps=steps, accumulate=accumulate, patience=patience, average=average)
    torch.manual_seed(seed)
    target = choose_device(device)
    embedder = _starting_point(weights, backbone, size, dim).to(target)
    sets = _listed(data)
    teaching = make_recipe(recipe, embedder.dim, {**(options or {}), **_sampler_of(sets)})
    transfer.prepare(embedder, teaching)
    teaching.check(len(sets))
    images = read_sets(sets, embedder.preprocessing, teaching.sampler, on_reading)
    teaching.begin(images.classes, partial(images.class_means, embedder, progress=on_reading))
    teaching.to(target)
    images.check_mixing(teaching.takes_mixed, recipe)
    judge = _validation(validation, embedder.preprocessing, seed, on_reading)
    settings = {
        "recipe": recipe,
        "options": dict(options or {}),
        "weights": None if weights is None else os.fspath(weights),
        "embedder": embedder.description(),
        "transfer": asdict(transfer),
        "validation": None if judge is None else judge.description(),
        "patience": patience,
        "steps": steps,
        "learning_rate": learning_rate or (1e-3 if weights is None else 1e-4),
        "weight_decay": weight_decay,
        "accumulate": accumulate,
        "average": average,
        "seed": seed,
        "data": images.description(),
    }
    run = Run(embedder, teaching, images, validation=judge, transfer=transfer, settings=settings, out=out)
    run.finish(on_step)
    teaching.end()
    losses = _means(run.losses)
    save_checkpoint(
        out, embedder, teaching, {"recipe": recipe, "training": {**settings, "loss": losses, "versions": versions()}}
    )
    page = write_record(out, settings, run.losses, run.measured, seconds=time.monotonic() - started)
    run.state_file.unlink(missing_ok=True)
    return TrainingReport(
        out=str(out),
        record=str(page),
        steps=run.step,
        images=images.count,
        classes=sum(images.classes),
        losses=losses,
        accuracy=max((accuracy for _, accuracy in run.measured), default=None),
        failed=images.failed,
        seconds=round(time.monotonic() - started, 3),
    )


def make_recipe(name: str, dim: int, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe of that name; ArgumentError if there is none or an option is not one of its own."""
    if name not in RECIPES:
        raise ArgumentError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    try:
        return RECIPES[name](dim=dim, **options)
    except TypeError as error:
        raise ArgumentError(f"recipe {name}: {error}") from error


def choose_sampler(
    recipe: str,
    *,
    classes: int | None = None,
    images: int | None = None,
    k_shot: int | None = None,
    siblings: float = 0.0,
) -> Sampler | None:
    """Return the sampler that the recipe of that name learns from, with other numbers; None if no number is given.

    Args:
        recipe: a name in ``RECIPES``.
        classes: in a batch; the recipe's own choice if None.
        images: of each class; the recipe's own choice if None.
        k_shot: how many of them are the support of an episode; the recipe's own choice if None.
        siblings: share of the batches whose classes lie in one parent folder, or few.

    Raises:
        ArgumentError: no such recipe, numbers that make no batch, or a support for a recipe that compares pairs.
    """
    own = make_recipe(recipe, 2, {}).sampler
    if classes is None and images is None and k_shot is None and not siblings:
        return None
    if isinstance(own, Episodes):
        support = own.k_shot if k_shot is None else k_shot
        asked = own.n_query if images is None else images - support
        return Episodes(n_way=classes or own.n_way, k_shot=support, n_query=asked, siblings=siblings)
    if k_shot is not None:
        raise ArgumentError(f"the recipe {recipe} compares all images of a batch, it has no support: leave out k_shot")
    if not isinstance(own, Balanced):
        raise ArgumentError(f"the recipe {recipe} draws its batches in a way of its own: leave out these numbers")
    return Balanced(n_classes=classes or own.n_classes, n_images=images or own.n_images, siblings=siblings)


def _sampler_of(sets: Sequence[TrainingSet]) -> dict[str, Sampler]:
    """The recipe must know how many images of a class are the support: as many as the sets' samplers draw."""
    samplers = [one.sampler for one in sets if one.sampler is not None]
    if len({sampler.k_shot for sampler in samplers if isinstance(sampler, Episodes)}) > 1:
        raise ArgumentError("the sets' episodes have supports of different sizes: give them one k_shot")
    return {"sampler": samplers[0]} if samplers else {}


def _check(out: Path, *, average: float, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ArgumentError(f"{name} must be at least 1")
    if not 0 <= average < 1:
        raise ArgumentError("average is the share kept of the average at each step: 0, or below 1, for instance 0.999")
    if not out.absolute().parent.is_dir():
        raise ArgumentError(f"{out}: the folder to write to does not exist")


def _listed(data: Data | Sequence[TrainingSet]) -> list[TrainingSet]:
    if isinstance(data, str | os.PathLike):
        return [TrainingSet(data)]
    return [data] if isinstance(data, TrainingSet) else list(data)


def _starting_point(
    weights: str | os.PathLike[str] | None, backbone: str, size: int | None, dim: int | None
) -> Embedder:
    if weights is None:
        if size is not None:
            check_size(backbone, size)
        return Embedder(backbone, dim=dim, preprocessing=Preprocessing.whole(size or Preprocessing().size))
    start = load_embedder(weights)
    preprocessing = start.preprocessing if size is None else start.preprocessing.resized(size)
    return start.adapted(dim=dim, preprocessing=preprocessing)


def _validation(
    data: Data | None, preprocessing: Preprocessing, seed: int, progress: Progress | None
) -> Validation | None:
    if data is None:
        return None
    (one,) = _listed(data)
    return Validation(read_folder(one.folder, preprocessing, class_depth=one.class_depth, progress=progress), seed)


def _means(losses: list[float]) -> list[float]:
    """Return the mean of each hundredth."""
    portion = max(1, len(losses) // 100)
    portions = [losses[i : i + portion] for i in range(0, len(losses), portion)]
    return [round(sum(portion) / len(portion), 4) for portion in portions]

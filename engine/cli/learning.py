"""Commands that teach an embedder and show what it can do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from engine import training
from engine.augment import Augment
from engine.batches import Balanced
from engine.cli import display
from engine.cli.options import ClassDepth, Device, Json, default
from engine.demo import run_demo
from engine.training_set import TrainingSet
from indexer.errors import ArgumentError


def train(
    *,
    folder: Annotated[Path, typer.Argument(help="images to learn from, a class per sub-folder")],
    out: Annotated[Path, typer.Option(help="the weights file to write")],
    recipe: Annotated[str, typer.Option(help="how to teach")] = default(training.train, "recipe"),
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="an argument of the recipe, as margin=0.5")
    ] = None,
    weights: Annotated[str, typer.Option(help="start: imagenet, bundled, a file, or none")] = default(
        training.train, "weights"
    ),
    backbone: Annotated[str, typer.Option(help="network to start with if the weights are none")] = default(
        training.train, "backbone"
    ),
    size: Annotated[int, typer.Option(help="side of its input, in pixels")] = default(training.train, "size"),
    class_depth: ClassDepth = default(TrainingSet, "class_depth"),
    quarter_turns: Annotated[
        bool, typer.Option("--quarter-turns", help="each class turned by 90, 180, 270 degrees is a further class")
    ] = default(TrainingSet, "quarter_turns"),
    classes_per_batch: Annotated[int, typer.Option(help="P")] = Balanced().n_classes,
    images_per_class: Annotated[int, typer.Option(help="K")] = Balanced().n_images,
    siblings: Annotated[
        float, typer.Option(help="share of batches whose classes lie in one parent folder")
    ] = Balanced().siblings,
    rotation: Annotated[float, typer.Option(help="random rotation, degrees; 0: off")] = Augment().rotation,
    translation: Annotated[float, typer.Option(help="random shift, share of the side; 0: off")] = Augment().translation,
    scale: Annotated[float, typer.Option(help="random growth, share; 0: off")] = Augment().scale,
    shear: Annotated[float, typer.Option(help="random shear, degrees; 0: off")] = Augment().shear,
    flip: Annotated[bool, typer.Option(help="mirror at random; not for letters")] = Augment().flip,
    colour: Annotated[float, typer.Option(help="random colour change, share; 0: off")] = Augment().colour,
    blur: Annotated[float, typer.Option(help="random blur, share of the side; 0: off")] = Augment().blur,
    stroke: Annotated[
        float, typer.Option(help="random growth of dark strokes, share of the side; 0: off")
    ] = Augment().stroke,
    steps: Annotated[int, typer.Option(help="batches to learn from")] = default(training.train, "steps"),
    learning_rate: Annotated[
        float | None, typer.Option(help="highest; left out: 1e-3 from none, 1e-4 from weights", show_default=False)
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="of AdamW")] = default(training.train, "weight_decay"),
    seed: Annotated[int, typer.Option(help="of everything random")] = default(training.train, "seed"),
    device: Device = None,
    json: Json = False,
) -> None:
    """Teach an embedder the classes of a folder; interrupted, the same command goes on."""
    with display.progress_bars(show=not json) as progress:
        learnt_from = TrainingSet(
            folder,
            class_depth=class_depth,
            quarter_turns=quarter_turns,
            augment=Augment(
                rotation=rotation,
                translation=translation,
                scale=scale,
                shear=shear,
                flip=flip,
                colour=colour,
                blur=blur,
                stroke=stroke,
            ),
            sampler=Balanced(n_classes=classes_per_batch, n_images=images_per_class, siblings=siblings),
        )
        report = training.train(
            learnt_from,
            out,
            recipe=recipe,
            options=_parse_options(option or []),
            weights=None if weights == "none" else weights,
            backbone=backbone,
            size=size,
            steps=steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            seed=seed,
            device=device,
            on_reading=progress,
            on_step=lambda step, total, loss: progress("learning", step, total, f"loss {loss:.3f}"),
        )
    if json:
        display.print_json(asdict(report))
        return
    display.show_failures(report.failed)
    display.out.print(
        f"wrote {report.out}: {report.steps:,} batches from {report.images:,} images of {report.classes:,} classes, "
        f"loss {report.losses[0]:.3f} at first, {report.losses[-1]:.3f} at last ({report.seconds:.0f} s)"
    )


def _parse_options(options: list[str]) -> dict[str, float]:
    parsed = {}
    for option in options:
        name, _, value = option.partition("=")
        try:
            parsed[name] = float(value)
        except ValueError as error:
            raise ArgumentError(f"option {option!r}: write it as name=number, for instance margin=0.5") from error
    return parsed


def demo(
    *,
    out: Annotated[Path, typer.Option(help="folder to write to")] = default(run_demo, "out"),
    weights: Annotated[str, typer.Option(help="of the embedder")] = default(run_demo, "weights"),
    json: Json = False,
) -> None:
    """Run the main job on real handwriting that the embedder has never seen, offline."""
    result = run_demo(out, weights=weights, say=(lambda _: None) if json else display.out.print)
    if json:
        display.print_json(asdict(result))

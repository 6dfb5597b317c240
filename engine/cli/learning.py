"""Commands that teach an embedder and show what it can do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from engine import training
from engine.augment import Augment
from engine.cli import display
from engine.cli.options import ClassDepth, Device, Json, default
from engine.demo import run_demo
from engine.training_set import TrainingSet
from engine.transfer import Transfer
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
    size: Annotated[
        int | None,
        typer.Option(help="side of its input, in pixels; the weights' own if left out", show_default=False),
    ] = default(training.train, "size"),
    class_depth: ClassDepth = default(TrainingSet, "class_depth"),
    quarter_turns: Annotated[
        bool, typer.Option("--quarter-turns", help="each class turned by 90, 180, 270 degrees is a further class")
    ] = default(TrainingSet, "quarter_turns"),
    classes_per_batch: Annotated[
        int | None, typer.Option(help="P, the ways of an episode; the recipe's own if left out", show_default=False)
    ] = None,
    images_per_class: Annotated[
        int | None,
        typer.Option(help="K, support and queries together; the recipe's own", show_default=False),
    ] = None,
    k_shot: Annotated[
        int | None, typer.Option(help="how many of them are the support of an episode", show_default=False)
    ] = None,
    siblings: Annotated[float, typer.Option(help="share of batches whose classes lie in one parent folder")] = default(
        training.choose_sampler, "siblings"
    ),
    frozen: Annotated[bool, typer.Option("--frozen", help="leave the backbone as it is: only the head learns")] = (
        Transfer().frozen
    ),
    frozen_norms: Annotated[
        bool, typer.Option("--frozen-norms", help="leave the batch-norm statistics as they are")
    ] = Transfer().frozen_norms,
    layer_decay: Annotated[
        float, typer.Option(help="share that each stage learns of the next one's rate")
    ] = Transfer().layer_decay,
    head_learning_rate: Annotated[
        float | None, typer.Option(help="of the head; that of the backbone if left out", show_default=False)
    ] = Transfer().head_learning_rate,
    dim: Annotated[
        int | None, typer.Option(help="length of an embedding that a new head learns", show_default=False)
    ] = default(training.train, "dim"),
    validation: Annotated[
        Path | None, typer.Option(help="folder of other classes: keep the weights that know them best")
    ] = default(training.train, "validation"),
    patience: Annotated[int, typer.Option(help="stop after so many measurements without a better one")] = default(
        training.train, "patience"
    ),
    rotation: Annotated[float, typer.Option(help="random rotation, degrees; 0: off")] = Augment().rotation,
    translation: Annotated[float, typer.Option(help="random shift, share of the side; 0: off")] = Augment().translation,
    scale: Annotated[float, typer.Option(help="random growth, share; 0: off")] = Augment().scale,
    shear: Annotated[float, typer.Option(help="random shear, degrees; 0: off")] = Augment().shear,
    elastic: Annotated[
        float, typer.Option(help="random rubber-like shifts, share of the side; 0: off")
    ] = Augment().elastic,
    flip: Annotated[bool, typer.Option(help="mirror at random; not for letters")] = Augment().flip,
    colour: Annotated[float, typer.Option(help="random colour change, share; 0: off")] = Augment().colour,
    blur: Annotated[float, typer.Option(help="random blur, share of the side; 0: off")] = Augment().blur,
    coarse: Annotated[
        float, typer.Option(help="largest pixel of a random coarser picture, share of the side; 0: off")
    ] = Augment().coarse,
    stroke: Annotated[
        float, typer.Option(help="random growth of dark strokes, share of the side; 0: off")
    ] = Augment().stroke,
    randaugment: Annotated[int, typer.Option(help="random changes of RandAugment; 0: off")] = Augment().randaugment,
    erase: Annotated[float, typer.Option(help="random erasing, share of the area; 0: off")] = Augment().erase,
    on_white: Annotated[
        float, typer.Option(help="share of the images of which a rounded part stays, on white; 0: off")
    ] = Augment().on_white,
    cutmix: Annotated[float, typer.Option(help="share of batches that CutMix mixes; 0: off")] = default(
        TrainingSet, "cutmix"
    ),
    steps: Annotated[int, typer.Option(help="batches to learn from")] = default(training.train, "steps"),
    learning_rate: Annotated[
        float | None, typer.Option(help="highest; left out: 1e-3 from none, 1e-4 from weights", show_default=False)
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="of AdamW")] = default(training.train, "weight_decay"),
    accumulate: Annotated[int, typer.Option(help="batches that make one step")] = default(training.train, "accumulate"),
    average: Annotated[float, typer.Option(help="decay of a moving average of weights, as 0.999; 0: off")] = default(
        training.train, "average"
    ),
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
                elastic=elastic,
                flip=flip,
                colour=colour,
                blur=blur,
                coarse=coarse,
                stroke=stroke,
                randaugment=randaugment,
                erase=erase,
                on_white=on_white,
            ),
            sampler=training.choose_sampler(
                recipe, classes=classes_per_batch, images=images_per_class, k_shot=k_shot, siblings=siblings
            ),
            cutmix=cutmix,
        )
        report = training.train(
            learnt_from,
            out,
            recipe=recipe,
            options=_parse_options(option or []),
            weights=None if weights == "none" else weights,
            backbone=backbone,
            size=size,
            dim=dim,
            transfer=Transfer(
                frozen=frozen,
                frozen_norms=frozen_norms,
                layer_decay=layer_decay,
                head_learning_rate=head_learning_rate,
            ),
            validation=None if validation is None else TrainingSet(validation, class_depth=class_depth),
            patience=patience,
            steps=steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            accumulate=accumulate,
            average=average,
            seed=seed,
            device=device,
            on_reading=progress,
            on_step=lambda step, total, loss: progress("learning", step, total, f"loss {loss:.3f}"),
        )
    if json:
        display.print_json(asdict(report))
        return
    display.show_failures(report.failed)
    known = "" if report.accuracy is None else f", {100 * report.accuracy:.1f} % on the validation classes"
    display.out.print(
        f"wrote {report.out}: {report.steps:,} batches from {report.images:,} images of {report.classes:,} classes, "
        f"loss {report.losses[0]:.3f} at first, {report.losses[-1]:.3f} at last{known} ({report.seconds:.0f} s)"
    )
    display.out.print(f"its curves: {report.record}")


def _parse_options(options: list[str]) -> dict[str, float | int | bool | str]:
    """Read ``name=value``: a number, true or false, or a word."""
    parsed: dict[str, float | int | bool | str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise ArgumentError(f"option {option!r}: write it as name=value, for instance margin=0.5")
        parsed[name] = _value(value)
    return parsed


def _value(text: str) -> float | int | bool | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


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

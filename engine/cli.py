"""The command line: one command, one call of the library. `firstsight` and `python -m engine` are the same."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from typer.exceptions import TyperException

from engine import display
from engine.augment import Augment
from engine.batches import Balanced
from engine.demo import run_demo
from engine.recognizer import Recognizer, index_folder
from engine.training import train
from indexer import build
from indexer.errors import ArgumentError, FirstsightError, ImageError
from indexer.gallery import Gallery

app = typer.Typer(
    help="Recognise things from one picture each.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _default(function: Callable[..., Any], name: str) -> Any:
    """A default is written once, in the library: the command line reads it there."""
    return inspect.signature(function).parameters[name].default


GalleryPath = Annotated[Path, typer.Option("--gallery", "-g", help="folder of the gallery")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object a line and nothing else")]
Images = Annotated[list[str], typer.Argument(help="image files", show_default=False)]
Weights = Annotated[
    str | None, typer.Option(help="imagenet, bundled, or a file that `train` wrote", show_default=False)
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best there is if left out", show_default=False)]
ClassDepth = Annotated[int, typer.Option(help="how many folder levels name a class")]


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(help="reference images, a class per sub-folder")],
    gallery: GalleryPath,
    weights: Weights = None,
    device: Device = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would change, change nothing")] = False,
    class_depth: ClassDepth = _default(build.index, "class_depth"),
    batch_size: Annotated[int, typer.Option(help="images embedded at once")] = _default(build.index, "batch_size"),
    max_pixels: Annotated[int, typer.Option(help="larger images are left out")] = _default(build.index, "max_pixels"),
    json: Json = False,
) -> None:
    """Make a gallery hold what a folder holds; run again, it embeds only what is new."""
    with display.progress_bars(show=not json) as progress:
        report = index_folder(
            folder,
            gallery,
            weights=weights,
            device=device,
            dry_run=dry_run,
            class_depth=class_depth,
            batch_size=batch_size,
            max_pixels=max_pixels,
            progress=progress,
        )
    if json:
        display.print_json(asdict(report))
        return
    display.show_failures(report.failed)
    display.show_report(report, dry_run=dry_run)


@app.command()
def recognize(
    images: Images,
    gallery: GalleryPath,
    k: Annotated[int, typer.Option("-k", help="classes to name at most")] = _default(Recognizer.recognize_each, "k"),
    metric: Annotated[str, typer.Option(help="cosine or euclidean")] = _default(Recognizer.recognize_each, "metric"),
    weights: Weights = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Name what images show."""
    with Recognizer.open(gallery, weights=weights, device=device) as recognizer:
        answers = recognizer.recognize_each(images, k=k, metric=metric)  # type: ignore[arg-type]  # checked there
    show = (lambda i, a: display.print_json(display.answer_as_dict(i, a))) if json else display.show_answer
    _show_each(images, answers, show, json=json)


@app.command()
def search(
    images: Images,
    gallery: GalleryPath,
    k: Annotated[int, typer.Option("-k", help="references to show at most")] = _default(Recognizer.search_each, "k"),
    weights: Weights = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Find the reference images most like images."""
    with Recognizer.open(gallery, weights=weights, device=device) as recognizer:
        found = recognizer.search_each(images, k=k)

    def show(image: str, hits: Any) -> None:
        if json:
            display.print_json({"image": image, "hits": [asdict(hit) for hit in hits]})
        else:
            display.show_hits(image, hits)

    _show_each(images, found, show, json=json)


def _show_each(images: list[str], outcomes: list[Any], show: Callable[[str, Any], None], *, json: bool) -> None:
    """Show each outcome; an image that could not be read gets a line of its own, and the exit status tells."""
    failed = False
    for image, outcome in zip(images, outcomes, strict=True):
        if not isinstance(outcome, ImageError):
            show(image, outcome)
            continue
        failed = True
        if json:
            display.print_json({"image": image, "error": outcome.reason})
        else:
            display.err.print(str(outcome))
    if failed:
        raise typer.Exit(1)


@app.command()
def learn(
    name: Annotated[str, typer.Argument(help="of the class")],
    images: Images,
    gallery: GalleryPath,
    weights: Weights = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Add images to the references of a class; one image makes a class."""
    with Recognizer.open(gallery, weights=weights, device=device) as recognizer:
        _show_change(recognizer.learn(name, list(images)), json=json)


@app.command()
def forget(name: Annotated[str, typer.Argument(help="of the class")], gallery: GalleryPath, json: Json = False) -> None:
    """Remove a class and its references."""
    with Gallery.open(gallery) as opened:
        _show_change(opened.remove(name), json=json)


@app.command()
def rename(
    old: Annotated[str, typer.Argument(help="name of the class now")],
    new: Annotated[str, typer.Argument(help="its new name")],
    gallery: GalleryPath,
    json: Json = False,
) -> None:
    """Give a class another name."""
    with Gallery.open(gallery) as opened:
        _show_change(opened.rename(old, new), json=json)


@app.command()
def undo(gallery: GalleryPath, json: Json = False) -> None:
    """Take the newest change back, as a change of its own; twice does it again."""
    with Gallery.open(gallery) as opened:
        _show_change(opened.undo(), json=json)


def _show_change(change: Any, *, json: bool) -> None:
    if json:
        display.print_json(asdict(change))
    else:
        display.out.print(f"{change.summary} (revision {change.revision})")


@app.command()
def log(gallery: GalleryPath, json: Json = False) -> None:
    """List the changes of a gallery, newest first."""
    with Gallery.open(gallery) as opened:
        revisions = [asdict(revision) for revision in reversed(opened.log())]
    if json:
        for revision in revisions:
            display.print_json(revision)
    else:
        display.print_table(("revision", "when", "what"), [(r["id"], r["made_at"], r["summary"]) for r in revisions])


@app.command()
def status(gallery: GalleryPath, json: Json = False) -> None:
    """Say what a gallery holds and which embedder made it."""
    with Gallery.open(gallery) as opened:
        facts = {
            "classes": len(opened.classes()),
            "images": len(opened),
            "revision": opened.revision,
            "weights": opened.embedder.get("weights"),
            "dim": opened.dim,
            "fingerprint": opened.fingerprint,
        }
    if json:
        display.print_json(facts)
    else:
        for key, value in facts.items():
            display.out.print(f"{key:<12} {value}")


@app.command()
def verify(gallery: GalleryPath, json: Json = False) -> None:
    """Check every promise that a gallery makes; exit status 1 if one is broken."""
    with Gallery.open(gallery) as opened:
        broken = opened.verify()
    if json:
        display.print_json({"sound": not broken, "broken": broken})
    else:
        display.out.print("\n".join(broken) or "the gallery is sound")
    if broken:
        raise typer.Exit(1)


@app.command(name="train")
def train_command(
    folder: Annotated[Path, typer.Argument(help="images to learn from, a class per sub-folder")],
    out: Annotated[Path, typer.Option(help="the weights file to write")],
    recipe: Annotated[str, typer.Option(help="how to teach")] = _default(train, "recipe"),
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="an argument of the recipe, as margin=0.5")
    ] = None,
    weights: Annotated[str, typer.Option(help="start: imagenet, bundled, a file, or none")] = _default(
        train, "weights"
    ),
    backbone: Annotated[str, typer.Option(help="network to start with if the weights are none")] = _default(
        train, "backbone"
    ),
    size: Annotated[int, typer.Option(help="side of its input, in pixels")] = _default(train, "size"),
    class_depth: ClassDepth = _default(train, "class_depth"),
    quarter_turns: Annotated[
        bool, typer.Option("--quarter-turns", help="each class turned by 90, 180, 270 degrees is a further class")
    ] = _default(train, "quarter_turns"),
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
    steps: Annotated[int, typer.Option(help="batches to learn from")] = _default(train, "steps"),
    learning_rate: Annotated[
        float | None, typer.Option(help="highest; left out: 1e-3 from none, 1e-4 from weights", show_default=False)
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="of AdamW")] = _default(train, "weight_decay"),
    seed: Annotated[int, typer.Option(help="of everything random")] = _default(train, "seed"),
    device: Device = None,
    json: Json = False,
) -> None:
    """Teach an embedder the classes of a folder; interrupted, the same command goes on."""
    with display.progress_bars(show=not json) as progress:
        report = train(
            folder,
            out,
            recipe=recipe,
            options=_parse_options(option or []),
            sampler=Balanced(n_classes=classes_per_batch, n_images=images_per_class, siblings=siblings),
            weights=None if weights == "none" else weights,
            backbone=backbone,
            size=size,
            class_depth=class_depth,
            quarter_turns=quarter_turns,
            augment=Augment(rotation, translation, scale, shear, flip, colour, blur),
            steps=steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            seed=seed,
            device=device,
            on_reading=progress,
            on_step=lambda step, steps, loss: progress("learning", step, steps, f"loss {loss:.3f}"),
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


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder to write to")] = _default(run_demo, "out"),
    weights: Annotated[str, typer.Option(help="of the embedder")] = _default(run_demo, "weights"),
    json: Json = False,
) -> None:
    """Run the main job on real handwriting that the embedder has never seen, offline."""
    result = run_demo(out, weights=weights, say=(lambda _: None) if json else display.out.print)
    if json:
        display.print_json(asdict(result))


def main() -> None:
    """Run the command line: exit status 0 done, 1 a refusal, 2 wrong usage; a refusal is one line."""
    # Too many pixels are refused in our own words; Pillow's warning of the same would only come before them.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except TyperException as error:
        _refuse(f"{error.format_message()} (see `firstsight --help`)", 2)
    except ArgumentError as error:
        _refuse(str(error), 2)
    except FirstsightError as error:
        _refuse(str(error), 1)
    except OSError as error:
        _refuse(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    except (KeyboardInterrupt, typer.Abort):
        _refuse("interrupted; the same command goes on where it was", 130)


def _refuse(message: str, status: int) -> None:
    display.err.print(f"firstsight: {message}")
    sys.exit(status)

"""The main job on real handwriting that the embedder has never seen: ten digits from one picture each."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from engine import report
from engine.answers import Answer
from engine.recognizer import Recognizer
from engine.statistics import mean_interval
from indexer.errors import ArgumentError, FirstsightError

SIDE, MARGIN = 64, 12  # of the paper that a digit is written on
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demonstration measured, in per cent.

    Attributes:
        accuracy: mean over the choices of the ten references.
        interval: half the width of its 95 % interval.
        pixels: the same for the nearest neighbour among raw pixels, on the same choices.
        page: the HTML page.
    """

    accuracy: float
    interval: float
    pixels: float
    choices: int
    images: int
    page: str
    seconds: float


def run_demo(
    out: str | Path = "demo", *, weights: str = "bundled", choices: int = 100, seed: int = 0, say: Say = print
) -> DemoResult:
    """Recognise scikit-learn's 1,797 handwritten digits from one reference each; write a page with pictures.

    Args:
        out: folder to write to; what an earlier demonstration left there is replaced.
        weights: as for ``Recognizer.create``.
        choices: how many random choices of the ten references the accuracy is measured over.
        seed: of those choices.
        say: called with a line whenever something begins or is known.
    """
    started = time.monotonic()
    if choices < 2:
        raise ArgumentError("choices must be at least 2, for there to be an interval")
    out = Path(out)
    paths, labels, chosen = write_images(out, seed=seed, say=say)
    draws = draw_references(labels, choices, seed)  # the first ones are those that were written

    say(f"making a gallery with the {weights} weights and indexing one image a digit ...")
    with Recognizer.create(out / "digits.gallery", weights=weights) as recognizer:
        indexed = recognizer.index(out / "references")
        say(f"  {indexed.classes} classes from {indexed.images} images in {indexed.seconds:.1f} s")
        others = [row for row in range(len(paths)) if row not in set(chosen)]
        say(f"recognising the other {len(others):,} ...")
        answers = recognizer.recognize([paths[row] for row in others])
        right = sum(answer.name == labels[row] for answer, row in zip(answers, others, strict=True))
        say(f"  {right:,} right: {100 * right / len(others):.1f} %, for these ten references")
        say(f"the same for {choices} random choices of the ten references ...")
        vectors = recognizer.embedder.embed(list(paths))
        eleventh = _learn_and_forget(recognizer, out, say)
    pixels = np.stack([np.array(Image.open(path).convert("L"), np.float32).ravel() for path in paths])
    ours = [accuracy(-(vectors @ vectors[draw].T), labels, draw) for draw in draws]
    raw = [accuracy(_squared_distances(pixels, pixels[draw]), labels, draw) for draw in draws]
    mean, _, high = mean_interval(ours)
    result = DemoResult(
        accuracy=round(mean, 2),
        interval=round(high - mean, 2),
        pixels=round(float(np.mean(raw)), 2),
        choices=choices,
        images=len(paths),
        page=str(out / "index.html"),
        seconds=round(time.monotonic() - started, 1),
    )
    say(f"  accuracy {result.accuracy:.1f} ± {result.interval:.1f} % (95 % interval of the mean)")
    say(f"  raw pixels, nearest neighbour, same choices: {result.pixels:.1f} %")
    say("  for comparison, ten-way one-shot on MNIST: Koch's Siamese net 70.3 %, raw pixels 26.5 %")
    shown = [(Path(paths[row]), labels[row], answer) for row, answer in zip(others, answers, strict=True)]
    page = _page(result, (ours, raw), shown, [(labels[row], Path(paths[row])) for row in chosen], eleventh)
    Path(result.page).write_text(page, encoding="utf-8")
    say(f"wrote {result.page} in {result.seconds:.0f} s: open it in a browser")
    return result


def write_images(out: Path, *, seed: int, say: Say) -> tuple[list[str], list[str], list[int]]:
    """Write the images: ``digits/<digit>/``, one reference of each in ``references/<digit>/``, and some stars.

    Only what a demonstration wrote is ever deleted.

    Returns:
        The paths of the digits, what each shows, and which ten are the references.
    """
    if out.exists() and any(out.iterdir()) and not (out / "digits").is_dir():
        raise ArgumentError(f"{out}: holds something else: choose an empty folder with --out")
    for name in ("digits", "references", "star", "digits.gallery"):
        shutil.rmtree(out / name, ignore_errors=True)
    paths, labels = _write_digits(out / "digits", say)
    chosen = draw_references(labels, 1, seed)[0]
    for row in chosen:
        (out / "references" / labels[row]).mkdir(parents=True)
        shutil.copy(paths[row], out / "references" / labels[row])
    (out / "star" / "queries").mkdir(parents=True)
    _draw_star(turn=0.0, size=24).save(out / "star" / "reference.png")
    for i, (turn, size) in enumerate([(8.0, 22.0), (-10.0, 26.0), (14.0, 19.0)]):
        _draw_star(turn=turn, size=size).save(out / "star" / "queries" / f"{i}.png")
    return paths, labels, chosen


def read_digits() -> tuple[list[NDArray[np.float64]], list[str]]:
    """Return scikit-learn's 1,797 digits, each an ``(8, 8)`` array of ink from 0 to 16, and what they show."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise FirstsightError("the demo needs scikit-learn's digits: pip install 'firstsight[demo]'") from error
    digits = load_digits()
    return list(digits.images), [str(digit) for digit in digits.target]


def on_paper(grid: NDArray[np.float64], *, margin: int = MARGIN) -> Image.Image:
    """Return a digit in black ink on white paper, with so many pixels of paper on every side of it."""
    ink = Image.fromarray((255 - grid * 255 / 16).astype(np.uint8))
    paper = Image.new("L", (SIDE, SIDE), 255)
    paper.paste(ink.resize((SIDE - 2 * margin,) * 2, Image.Resampling.BICUBIC), (margin, margin))
    return paper


def _write_digits(folder: Path, say: Say) -> tuple[list[str], list[str]]:
    """Write the digits as black ink on white paper; return their paths and what they show."""
    grids, labels = read_digits()
    say(f"writing {len(grids):,} handwritten digits to {folder} ...")
    paths = []
    for i, (grid, digit) in enumerate(zip(grids, labels, strict=True)):
        path = folder / digit / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        on_paper(grid).save(path)
        paths.append(str(path))
    return paths, labels


def draw_references(labels: list[str], choices: int, seed: int) -> list[list[int]]:
    """Return so many random choices of references: of each class the row of one image."""
    rows = {name: [i for i, label in enumerate(labels) if label == name] for name in sorted(set(labels))}
    randoms = (Random(f"{seed}/{i}") for i in range(choices))
    return [[random.choice(rows[name]) for name in rows] for random in randoms]


def accuracy(distances: NDArray[np.float32], labels: ArrayLike, chosen: Sequence[int] | NDArray[np.int64]) -> float:
    """Return per cent of the images, the references apart, whose nearest reference is of their class.

    Args:
        distances: ``(images, references)``.
        labels: of all images ``(images,)``.
        chosen: the rows of the references ``(references,)``.
    """
    names = np.asarray(labels)
    right = names[chosen][distances.argmin(1)] == names
    return float(100 * np.delete(right, chosen).mean())


def _squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)


def _learn_and_forget(recognizer: Recognizer, out: Path, say: Say) -> list[tuple[Path, str, Answer]]:
    """Teach an eleventh class from one image, ask for it, and forget it; return question, truth and answer."""
    say("teaching an eleventh class, a star, from one image ...")
    recognizer.learn("star", str(out / "star" / "reference.png"))
    stars = sorted((out / "star" / "queries").iterdir())
    answers = recognizer.recognize([str(star) for star in stars])
    say(f"  {sum(answer.name == 'star' for answer in answers)} of {len(answers)} other stars recognised")
    recognizer.forget("star")
    after = recognizer.recognize(str(stars[0]))
    say(f"  forgotten again: the nearest class of a star is now {after.name}")
    return [(star, "star", answer) for star, answer in zip(stars, answers, strict=True)]


def _draw_star(*, turn: float, size: float) -> Image.Image:
    paper = Image.new("L", (4 * SIDE, 4 * SIDE), 255)
    points = [
        (2 * SIDE + 4 * size * math.sin(angle), 2 * SIDE - 4 * size * math.cos(angle))
        for angle in (math.radians(turn + 144 * i) for i in range(6))
    ]
    ImageDraw.Draw(paper).line(points, fill=0, width=16, joint="curve")
    return paper.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _page(
    result: DemoResult,
    accuracies: tuple[list[float], list[float]],
    shown: list[tuple[Path, str, Answer]],
    references: list[tuple[str, Path]],
    eleventh: list[tuple[Path, str, Answer]],
) -> str:
    names = [name for name, _ in references]
    counts = [[sum(t == a and g.name == b for _, t, g in shown) for b in names] for a in names]
    wrong = [one for one in shown if one[2].name != one[1]]
    sample = Random(0).sample(shown, min(24, len(shown)))
    known = "".join(
        f"<figure>{report.picture(Image.open(path), alt=name)}<figcaption>{name}</figcaption></figure>"
        for name, path in references
    )
    return report.page(
        "Firstsight: ten digits from one picture each",
        "<h1>Ten digits from one picture each</h1>",
        "<p>An embedder that has never seen a digit was shown one image of each, then asked about all the others.</p>",
        report.figures(
            [
                (
                    f"{result.accuracy:.1f} ± {result.interval:.1f} %",
                    f"right, over {result.choices} choices of the ten",
                ),
                (f"{result.pixels:.1f} %", "raw pixels, nearest neighbour, same choices"),
                (f"{result.images:,}", "handwritten digits, 8 × 8 pixels each"),
            ]
        ),
        report.histogram(accuracies[0], other=accuracies[1], names=("Firstsight", "raw pixels")),
        '<p class="soft">How many of the choices reached which accuracy.</p>',
        f'<h2>The ten references of the first choice</h2><div class="pair">{known}</div>',
        "<h2>Some of its answers</h2>",
        report.cards(_card(*one) for one in sample),
        f"<h2>Some of its {len(wrong):,} mistakes</h2>",
        report.cards(_card(*one) for one in Random(1).sample(wrong, min(12, len(wrong)))),
        "<h2>Which digit was taken for which</h2>",
        report.confusion_table(names, counts),
        "<h2>An eleventh class, learnt from one image and forgotten again</h2>",
        report.cards(_card(*one) for one in eleventh),
    )


def _card(path: Path, truth: str, answer: Answer) -> str:
    best = answer.matches[0]
    note = f"score {best.score:.2f}" + "".join(f", then {m.name} {m.score:.2f}" for m in answer.matches[1:2])
    return report.decision_card(Image.open(path), Image.open(best.reference), answer=best.name, truth=truth, note=note)

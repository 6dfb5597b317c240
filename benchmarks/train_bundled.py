"""The bundled weights: a ResNet-101 with narrow bottlenecks that learns drawings and photos together, at 64 px.

    python benchmarks/train_bundled.py --stage both --start drawings.safetensors --out both.safetensors
    python benchmarks/train_bundled.py --stage classes --start both.safetensors --out classes.safetensors
    python benchmarks/train_bundled.py --stage small --start classes.safetensors --out small.safetensors
    python benchmarks/train_bundled.py --stage last --start small.safetensors --out last.safetensors
    python benchmarks/train_bundled.py --stage small --start last.safetensors --out again.safetensors
    python benchmarks/train_bundled.py --stage whole --start again.safetensors --out whole.safetensors
    python benchmarks/train_bundled.py --stage calm --start whole.safetensors --out calm.safetensors
    python benchmarks/train_bundled.py --stage taught --start calm.safetensors --teachers drawings.safetensors ...
    python benchmarks/train_bundled.py --blend drawings.safetensors taught.safetensors --out before.safetensors ...
    python benchmarks/train_bundled.py --stage coarse --start before.safetensors --out coarse.safetensors
    python benchmarks/train_bundled.py --finish mixed.safetensors --out bundled.safetensors

Drawings: Omniglot's background set, 30 alphabets, each character turned by 90, 180 and 270 degrees as a further class.
Photos: CIFAR-100 and Tiny ImageNet without the classes that benchmarks/heldout.py asks for. Interrupted, the same
command goes on. Weights that learnt the one and then both have forgotten some of the one; weights between the files do
better at both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903): --blend. It also
makes 512 floats of the 2048 features, by a projection that is computed; what starts from there learns it on. Last come
the colours (engine/colours.py), which nothing here learns to see: --finish.
docs/weights.md says what came out of it, with which arguments, and how long it took.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from data import unpacked
from protocols import photo_training_folder

from engine.augment import Augment
from engine.batches import Balanced, LabelledImages
from engine.embedder import Embedder
from engine.training import make_recipe, train
from engine.training_set import Mixture, TrainingSet, read_sets
from engine.weights import load_embedder, read_checkpoint, save_checkpoint

PEN = Augment(rotation=15, translation=0.1, scale=0.35, shear=15, flip=False, colour=0.3, blur=0.05, stroke=0.05)
LENS = Augment(rotation=10, translation=0.15, scale=0.5, shear=5, flip=True, colour=0.3, blur=0.02)
# Floats that are made of the features; a direction's variance v becomes v ** (1 - 2 * SHORTENED).
DIM, SHORTENED = 512, 0.2
AGAIN = 0.1  # what is shortened of them at the end: learning has made the longest ones long again
COLOURS, COLOURS_SHORTENED = 32, 0.35  # floats that tell of colours; how much their directions are shortened
SHARE = 0.5  # their length beside features of length 1, in the mean of photos
INK = 0.45, 0.8  # shares of the paper that a drawing fills in further looks at it
COLOURED = 6000  # photos that say how colours vary


@dataclass(frozen=True, slots=True)
class Stage:
    """How is learnt, what a batch shows of drawings and of photos, and how many batches make a step."""

    recipe: str
    drawings: Balanced
    photos: Balanced
    pen: Augment = PEN
    lens: Augment = LENS
    options: dict[str, Any] = field(default_factory=dict)
    accumulate: int = 1
    size: int = 64


RUBBER = replace(PEN, elastic=0.06)
FELT = replace(RUBBER, scale=0.5, blur=0.06, stroke=0.06)
SHELF = replace(LENS, on_white=0.25)
# Views that differ less: of a photo seen a few dozen times the network still makes more than its views can spoil.
CALM = Augment(rotation=5, translation=0.08, scale=0.3, flip=True, colour=0.2, blur=0.01, on_white=0.15)
# Siblings of photos are classes of one set: what tells the sets apart, their sharpness, is nothing to learn. Where a
# photo is compared with all classes, whatever its batch, two of a class do, so that more classes are seen.
BOTH = Stage(
    "contrastive", Balanced(n_classes=8, n_images=4, siblings=0.5), Balanced(n_classes=16, n_images=4, siblings=0.5)
)
CLASSES = Stage(
    "classification",
    Balanced(n_classes=4, n_images=4, siblings=0.5),
    Balanced(n_classes=22, n_images=2),
    pen=RUBBER,
    options={"contrast": 1.0},
    accumulate=2,
)
LAST = Stage(
    "contrastive",
    Balanced(n_classes=6, n_images=4, siblings=0.5),
    Balanced(n_classes=12, n_images=3, siblings=0.5),
    pen=RUBBER,
    lens=SHELF,
    accumulate=2,
)
# At whole size, with as many drawings as LAST.
WHOLE = replace(CLASSES, drawings=LAST.drawings, photos=Balanced(n_classes=19, n_images=2), pen=FELT, lens=SHELF)
# A picture is to be known however coarse it is: a digit of 8 x 8 pixels, a photo of 32. What the network knows already
# of a class is where its vector begins.
COARSE = replace(
    WHOLE,
    drawings=Balanced(n_classes=9, n_images=4, siblings=0.5),
    photos=Balanced(n_classes=17, n_images=2),
    pen=replace(FELT, coarse=0.1),
    lens=replace(CALM, coarse=0.03),
    options={"contrast": 1.0, "imprint": 8},
)
# Photos cost drawings: these are learnt last, and the more of them.
DRAWN = replace(
    LAST,
    drawings=Balanced(n_classes=10, n_images=4, siblings=0.5),
    photos=Balanced(n_classes=8, n_images=3, siblings=0.5),
    pen=FELT,
)
STAGES = {
    "both": BOTH,
    "classes": CLASSES,
    # At half the side a core learns three times as many images; "last" and "whole" get used to the rest (Touvron et al.
    # 2019, "Fixing the train-test resolution discrepancy", arXiv:1906.06423).
    "small": replace(WHOLE, drawings=BOTH.drawings, photos=Balanced(n_classes=44, n_images=2), size=32),
    "last": LAST,
    "whole": WHOLE,
    "calm": replace(WHOLE, lens=CALM),
    "coarse": COARSE,
    "drawn": DRAWN,
    "drawn-coarse": replace(DRAWN, pen=COARSE.pen, lens=COARSE.lens),
    # Its teachers (--teachers): of drawings the weights that learnt nothing else, of photos those it begins with.
    "taught": replace(DRAWN, recipe="distillation", options={"contrast": 0.5}, lens=CALM),
}


def sets(stage: Stage) -> list[TrainingSet]:
    """Return the training sets of a stage."""
    return [
        TrainingSet(
            unpacked("omniglot/images_background.tar.xz"),
            class_depth=2,
            quarter_turns=True,
            augment=stage.pen,
            sampler=stage.drawings,
        ),
        TrainingSet(photo_training_folder(), class_depth=2, augment=stage.lens, sampler=stage.photos),
    ]


def blend(files: Sequence[str], shares: Sequence[float], out: str, seed: int) -> None:
    """Write the mean of several files' weights, the last one's card with it, made ready for use."""
    embedder = blended(files, shares, blend_images(files[0]), seed)
    card, _ = read_checkpoint(Path(files[-1]))
    card["training"]["weights"] = card["training"]["weights"] and Path(card["training"]["weights"]).name
    card["blend"] = {"files": [Path(file).name for file in files], "shares": list(shares), "seed": seed}
    save(out, embedder, card)


def save(out: str, embedder: Embedder, card: dict[str, Any]) -> None:
    """Write an embedder with what a card tells of how it was made."""
    told = {name: card[name] for name in ("recipe", "training", "blend", "finish") if name in card}
    save_checkpoint(Path(out), embedder, make_recipe(card["recipe"], embedder.dim, {}), told)


def blend_images(file: str) -> Mixture:
    """Return the images by which a blend is made ready for use, as the weights in ``file`` see them."""
    return read_sets(sets(STAGES["both"]), load_embedder(file).preprocessing, Balanced())


def blended(files: Sequence[str], shares: Sequence[float], mixture: Mixture, seed: int) -> Embedder:
    """Return the mean of several files' weights, its statistics made from ``mixture``.

    A projection that has been learnt is averaged with the rest; where there is none, ``mixture`` makes one.
    """
    if len(files) != len(shares):
        raise SystemExit("--shares: give as many as there are files")
    embedder, *others = map(load_embedder, files)
    states = [one.state_dict() for one in (embedder, *others)]
    embedder.load_state_dict(
        {
            name: sum(share * state[name] for share, state in zip(shares, states, strict=True))
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
    )
    settle(embedder, mixture, seed)
    return embedder if isinstance(embedder.projection, torch.nn.Linear) else whitened(embedder, mixture, seed)


def finish(file: str, out: str, share: float, seed: int) -> None:
    """Write the weights of a file with the longest directions shortened once more, and with colours if they count.

    Whoever uses them sees what is drawn smaller and larger as well, which is nothing to learn.
    """
    mixture, (card, _) = blend_images(file), read_checkpoint(Path(file))
    embedder = whitened(load_embedder(file), mixture, seed, AGAIN)
    if share:
        embedder = coloured(embedder, mixture.images[1], share, seed)
    embedder.preprocessing = replace(embedder.preprocessing, ink=INK)
    card["finish"] = {"file": Path(file).name, "colours": share, "ink": list(INK), "seed": seed}
    save(out, embedder, card)


def coloured(embedder: Embedder, photos: LabelledImages, share: float, seed: int) -> Embedder:
    """Return the embedder with colours beside its features: their longest directions in photos, each shortened."""
    made = Embedder.from_description({**embedder.description(), "colours": COLOURS})
    made.load_state_dict(embedder.state_dict(), strict=False)
    colours = made.colours
    rows = Random(seed).sample(range(len(photos.pixels)), min(COLOURED, len(photos.pixels)))
    seen = torch.cat([colours.histogram(photos.batch([row], made.device).images) for row in rows]).double()
    lengths, directions = torch.linalg.eigh(seen.T @ seen / len(seen))
    weight = (directions * lengths.clamp_min(1e-12) ** -COLOURS_SHORTENED).T[-COLOURS:]
    weight *= share / (seen @ weight.T).square().sum(1).mean().sqrt()
    colours.projection.weight.data = weight.float().contiguous()
    return made.eval()


def settle(embedder: Embedder, mixture: Mixture, seed: int, batches: int = 20) -> None:
    """Measure anew what batch norm subtracts and divides by: a mean of weights has statistics of its own."""
    for norm in embedder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
    embedder.train()
    with torch.no_grad():
        for number in range(batches):
            embedder(mixture.batch(Random(f"{seed}/{number}"), embedder.device).images)
    embedder.eval()


def whitened(
    embedder: Embedder, mixture: Mixture, seed: int, shortened: float = SHORTENED, batches: int = 60
) -> Embedder:
    """Return the embedder with a projection to the directions along which images differ most, the longest shortened.

    A few directions, of what all images share, else outweigh the many that tell them apart (Jegou and Chum 2012,
    "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening"). Whitening to the
    full would give noise the same weight.
    """
    moments = []
    with torch.inference_mode():
        for images, sampler in zip(mixture.images, mixture.samplers, strict=True):
            rows = [images.batch(sampler.draw(images, Random(f"{seed}/{i}")), embedder.device) for i in range(batches)]
            vectors = torch.cat([embedder(batch.images) for batch in rows]).double()
            moments.append(vectors.T @ vectors / len(vectors))
        lengths, directions = torch.linalg.eigh(sum(moments[1:], moments[0]))
    made = embedder.adapted(dim=DIM, preprocessing=embedder.preprocessing)
    weight = (directions[:, -DIM:] * lengths[-DIM:] ** -shortened).T.float()
    if isinstance(embedder.projection, torch.nn.Linear):
        weight = weight @ embedder.projection.weight
    made.projection.weight.data = weight.contiguous()
    return made.eval()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--stage", choices=STAGES, default="both")
    arguments.add_argument("--start", help="weights to start from; from nothing if left out")
    arguments.add_argument(
        "--teachers", nargs=2, metavar="FILE", help="of drawings and of photos, where a stage has them"
    )
    arguments.add_argument("--blend", nargs="+", metavar="FILE", help="learn nothing: average files")
    arguments.add_argument("--finish", metavar="FILE", help="learn nothing: shorten directions again, add colours")
    arguments.add_argument("--colours", type=float, default=SHARE, help="how much they count, beside features of 1")
    arguments.add_argument("--shares", nargs="+", type=float, default=[0.25, 0.75], help="of each file")
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()

    def say(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0:
            print(f"{step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    if chosen.blend:
        blend(chosen.blend, chosen.shares, chosen.out, chosen.seed)
        return
    if chosen.finish:
        finish(chosen.finish, chosen.out, chosen.colours, chosen.seed)
        return
    stage = STAGES[chosen.stage]
    train(
        sets(stage),
        chosen.out,
        recipe=stage.recipe,
        options=stage.options | ({"teacher": chosen.teachers} if chosen.teachers else {}),
        weights=chosen.start,
        backbone="resnet101-slim",
        size=stage.size,
        steps=chosen.steps,
        accumulate=stage.accumulate,
        learning_rate=chosen.learning_rate,
        weight_decay=0.05,
        seed=chosen.seed,
        on_step=say,
    )


if __name__ == "__main__":
    main()

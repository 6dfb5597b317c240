"""A folder into a gallery, beside the loops that users write: the same photos, the same weights, the same answers.

Made photos (JPEGs of 640 x 480, 20 a class) are embedded and made searchable, in turns (A B A B):

- `Recognizer.index`: what Firstsight does, a gallery on disk at the end, committed and synced;
- the plain loop of torchvision's transforms and network, image by image;
- the same by a DataLoader of two workers, in batches of 32;
- pytorch-metric-learning's InferenceModel.train_knn, batches of 32 (pip install 'firstsight[metric-learning]');
- the network alone: the runtime that `index` uses, fed with prepared pixels from memory, at its best batch size.

All have loaded their weights before, and ours has found its runtime. Every way must find the same nearest photos.

    python benchmarks/folder_to_gallery.py [--weights bundled] [--runtime auto] [--images 2000] [--rounds 5] [--quick]

--weights resnet101 is the whole ResNet-101 at 224 px, with random weights: time does not depend on what was learnt.
Expected: see benchmarks/results/folder_to_gallery_WEIGHTS.json. Half an hour for 2,000 images of either on two cores;
--quick shows in half a minute that the program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import indexer.kernels  # noqa: F401 - before FAISS: as in a gallery, so here

# isort: split
import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from photos import make_photos
from rows import report, row
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from engine import Recognizer
from engine.embedder import Embedder
from engine.runtimes import RUNTIME
from engine.weights import load_embedder
from indexer.stations import IN_THREADS, ORDER, Stations

Vectors = NDArray[np.float32]

BATCHES = (8, 16, 32, 64)  # of the network alone
VECTORS = (
    'SELECT vector FROM "references" AS r JOIN embeddings AS e ON e.image_id = r.image_id WHERE r.went IS NULL'
    " ORDER BY r.path"
)
A_CLASS = 20  # photos
ALONE = "the network alone"
LEAST_SAME = 0.95  # of photos whose nearest other is the same; bf16 and int8 may tell near ones apart otherwise


class Ours:
    """Firstsight: a new gallery each time, that knows its runtime already."""

    name, goal = "firstsight", ""

    def __init__(self, embedder: Embedder, folder: Path, scratch: Path, runtime: str) -> None:
        self._embedder, self._folder, self._scratch, self._runtime, self._made = embedder, folder, scratch, runtime, 0
        self.stations: list[Stations] = []
        with Recognizer.create(scratch / "0.gallery", weights=embedder, runtime=runtime) as made:
            made.runtimes.settle(folder)
        with self.open() as made:
            self.runtime = made.runtimes.name

    def open(self) -> Recognizer:
        """Return an empty gallery, as new."""
        self._made += 1
        path = Path(shutil.copytree(self._scratch / "0.gallery", self._scratch / f"{self._made}.gallery"))
        return Recognizer.open(path, weights=self._embedder, runtime=self._runtime)

    def run(self, recognizer: Recognizer) -> None:
        with recognizer:
            done = recognizer.index(self._folder)
        if done.stations is None or done.failed:
            raise SystemExit(f"not all was indexed: {done}")
        self.stations.append(done.stations)

    def vectors(self) -> Vectors:
        """Return what the last gallery holds, in the order of the paths, read with plain SQL."""
        catalog = self._scratch / f"{self._made}.gallery" / "catalog.sqlite"
        with closing(sqlite3.connect(catalog)) as connection:
            rows = connection.execute(VECTORS).fetchall()
        return np.stack([np.frombuffer(blob, "<f4") for (blob,) in rows])


class Loop:
    """torchvision's own transforms and network, image by image."""

    name, goal = "image by image", ">= 6.5"

    def __init__(self, embedder: Embedder) -> None:
        self.trunk = Trunk(embedder)
        self.transform = transform(embedder)

    @torch.inference_mode()
    def run(self, folder: Path) -> Vectors:
        photos = ImageFolder(str(folder), self.transform)
        found = [self.trunk(image[None]).numpy() for image, _ in photos]
        return searchable(np.concatenate(found))


class Loader(Loop):
    """The same in batches of 32, read by two processes."""

    name, goal = "DataLoader", ">= 6"

    @torch.inference_mode()
    def run(self, folder: Path) -> Vectors:
        photos = DataLoader(ImageFolder(str(folder), self.transform), batch_size=32, num_workers=2)
        found = [self.trunk(images).numpy() for images, _ in photos]
        return searchable(np.concatenate(found))


class MetricLearning(Loop):
    """pytorch-metric-learning's InferenceModel, which makes a FAISS index of a data set."""

    name, goal = "pytorch-metric-learning", ">= 6"

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self._library = importlib.import_module("pytorch_metric_learning.utils.inference")

    @torch.inference_mode()
    def run(self, folder: Path) -> Vectors:
        cpu = torch.device("cpu")
        model = self._library.InferenceModel(self.trunk, normalize_embeddings=True, data_device=cpu)
        model.train_knn(ImageFolder(str(folder), self.transform), batch_size=32)
        index = model.knn_func.index
        return index.reconstruct_n(0, index.ntotal)


class Trunk(nn.Module):
    """The network as most programs run it, layer by layer, channels first: normalised images in, embeddings out."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = copy.deepcopy(embedder).to(memory_format=torch.contiguous_format)
        how = embedder.preprocessing
        self.mean, self.std = (torch.tensor(channels).view(3, 1, 1) for channels in (how.mean, how.std))
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.embedder.projection(self.embedder.backbone(images))
        return self.embedder.finished(features, images * self.std + self.mean)


def transform(embedder: Embedder) -> v2.Compose:
    """Return torchvision's transforms for the embedder's preprocessing."""
    how = embedder.preprocessing
    cropped = [v2.Resize(how.resize), v2.CenterCrop(how.size)]
    shape: list[Any] = cropped if how.fit == "crop" else [v2.Resize((how.size, how.size))]
    return v2.Compose([*shape, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(how.mean, how.std)])


def searchable(vectors: Vectors) -> Vectors:
    """Make a FAISS index of the vectors, as whoever writes such a loop does."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return vectors


# -- measures --------------------------------------------------------------------------------------------------------


def alone(recognizer: Recognizer, folder: Path, images: int) -> tuple[int, Callable[[], None]]:
    """Return the best batch size of the network alone, and what embeds so many images by it."""
    embedder, embed = recognizer.embedder, recognizer.runtimes.embed
    paths = sorted(path for path in folder.rglob("*.jpg"))[: max(BATCHES)]
    pixels = [embedder.prepare(embedder.load(path).image) for path in paths]

    def seconds(size: int, count: int) -> float:
        started = time.perf_counter()
        for start in range(0, count, size):
            embed([pixels[place % len(pixels)] for place in range(start, min(start + size, count))])
        return time.perf_counter() - started

    trial = min(images, max(BATCHES))
    best = min(BATCHES, key=lambda size: min(seconds(size, trial) for _ in range(3)))
    return best, lambda: (seconds(best, images), None)[1]


def same_neighbours(ours: Vectors, theirs: Vectors) -> float:
    """Return for how many photos the nearest other one is the same."""

    def nearest(vectors: Vectors) -> NDArray[np.int64]:
        cosines = np.asarray(vectors) @ np.asarray(vectors).T
        np.fill_diagonal(cosines, -1.0)
        return cosines.argmax(axis=1)

    return float((nearest(ours) == nearest(theirs)).mean())


def station_rows(stations: Stations, how: str) -> list[dict[str, Any]]:
    """Return what the stations of our median run took."""
    had = stations.embedding + stations.waiting
    more = {name: round(getattr(stations, name), 3) for name in ("finding", *ORDER, "waiting", "ahead")}
    busy = row(f"{how}: the network at work while there is work", stations.embedding / had, "", **more)
    each = [
        row(f"{how}: {name}", 1e3 * getattr(stations, name) / stations.images, "ms/image",
            threads=stations.workers if name in IN_THREADS else 1)
        for name in ORDER
    ]  # fmt: skip
    return [busy, *each]


def measure(weights: str, runtime: str, images: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    torch.manual_seed(seed)
    embedder = Embedder("resnet101").eval().requires_grad_(False) if weights == "resnet101" else load_embedder(weights)
    how = f"{weights} at {embedder.preprocessing.size} px, {images:,} photos"
    with tempfile.TemporaryDirectory(prefix="firstsight-folder-") as made:
        scratch, folder = Path(made), Path(made) / "photos"
        make_photos(folder, range(images), classes=max(1, images // A_CLASS), seed=seed)
        ours, peers = Ours(embedder, folder, scratch, runtime), [Loop(embedder), Loader(embedder)]
        try:
            peers.append(MetricLearning(embedder))
        except ImportError:
            say("pytorch-metric-learning is left out: pip install 'firstsight[metric-learning]'")
        ours.run(ours.open())  # warm: the files are in the page cache
        ours.stations.clear()
        best, network = alone(ours.open(), folder, images)
        ways: dict[str, Callable[[], Any]] = {one.name: partial(one.run, folder) for one in peers}
        spent, found = in_turns(ours, {**ways, ALONE: network}, rounds)
        vectors = ours.vectors()
    wall = {name: [one for one, _ in times] for name, times in spent.items()}
    rows = [
        row(
            f"{how}: {name}",
            images / statistics.median(wall[name]),
            "images/s",
            rounds=[round(images / one, 2) for one in wall[name]],
            **({"runtime": ours.runtime} if name in (ours.name, ALONE) else {}),
            cpu_ms_an_image=round(1e3 * statistics.median(cpu for _, cpu in times) / images, 2),
        )
        for name, times in spent.items()
    ]
    for peer in peers:
        times, goal = ratio(wall[peer.name], wall[ours.name]), float(peer.goal.split()[1])
        rows.append(row(f"{how}: times as fast as {peer.name}", times, "times", peer.goal, times >= goal, seed=seed))
        same = same_neighbours(vectors, found[peer.name])
        goal_of_same = f">= {LEAST_SAME:g}"
        rows.append(row(f"{how}: same nearest photo as {peer.name}", same, "", goal_of_same, same >= LEAST_SAME))
    share = ratio(wall[ALONE], wall[ours.name])
    rows.append(row(f"{how}: as fast as the network alone", share, "", ">= 0.9", share >= 0.9, batch_size=best))
    middle = sorted(range(rounds), key=wall[ours.name].__getitem__)[rounds // 2]
    return rows + station_rows(ours.stations[middle], how)


def in_turns(
    ours: Ours, ways: Mapping[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, Any]]:
    """Return for each way its seconds by the clock and of processors, children's too; and what it answered last."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in (ours.name, *ways)}
    found: dict[str, Any] = {}
    for turn in range(rounds):
        for name, go in {ours.name: partial(ours.run, ours.open()), **ways}.items():
            cpu, started = sum(os.times()[:4]), time.perf_counter()
            found[name] = go()
            spent[name].append((time.perf_counter() - started, sum(os.times()[:4]) - cpu))
            say(f"round {turn + 1} of {rounds}: {name} {spent[name][-1][0]:.2f} s")
    return spent, found


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median of the ratios of turns: what slows the machine for a while slows both."""
    return statistics.median(one / other for one, other in zip(theirs, ours, strict=True))


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--weights", default="bundled", help="bundled, resnet101, or a file that `train` wrote")
    arguments.add_argument("--runtime", default=RUNTIME)
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    images, rounds = (40, 1) if chosen.quick else (chosen.images, chosen.rounds)
    rows = measure(chosen.weights, chosen.runtime, images, rounds, chosen.seed)
    report(f"folder_to_gallery_{Path(chosen.weights).stem}", rows, keep=not chosen.quick)


if __name__ == "__main__":
    main()

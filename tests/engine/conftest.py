from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine import cli
from engine.batches import LabelledImages
from engine.embedder import BACKBONES, Embedder
from engine.preprocessing import Preprocessing
from engine.weights import save_checkpoint


class TinyNetwork(torch.nn.Module):
    """Stands in for a ResNet: one convolution, so that a test takes milliseconds."""

    def __init__(self, _size: int = 32) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 24, 5, stride=4)
        self.norm = torch.nn.BatchNorm2d(24)
        self.fc: torch.nn.Module = torch.nn.Linear(24 * 9, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.convolution(images)).relu()
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(features, 3).flatten(1))


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    monkeypatch.setitem(BACKBONES, "tiny", TinyNetwork)


@pytest.fixture
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder("tiny", preprocessing=Preprocessing.whole(32)).eval()


@pytest.fixture
def weights(embedder, tmp_path) -> Path:
    """A checkpoint on disk."""
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, embedder, torch.nn.Module(), {"recipe": "contrastive"})
    return path


@pytest.fixture
def needed(tmp_path):
    """Return the options that the recipe of a name cannot learn without."""

    def options(recipe: str) -> dict[str, str]:
        if recipe != "distillation":
            return {}
        torch.manual_seed(7)  # not the one that learns
        teacher = tmp_path / "teacher.safetensors"
        save_checkpoint(teacher, Embedder("tiny", preprocessing=Preprocessing.whole(32)), torch.nn.Module(), {})
        return {"teacher": str(teacher)}

    return options


def draw(colour: tuple[int, int, int], seed: int, side: int = 40) -> Image.Image:
    """A square of a colour on a noisy ground."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (side, side, 3), dtype=np.uint8)
    left, top = random.integers(4, 12, 2)
    pixels[top : top + 20, left : left + 20] = colour
    return Image.fromarray(pixels)


COLOURS = {"red": (230, 20, 20), "green": (20, 220, 30), "blue": (20, 40, 230), "grey": (150, 150, 150)}


@pytest.fixture
def photos(tmp_path) -> Path:
    """Four classes of three images each."""
    folder = tmp_path / "photos"
    for i, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for j in range(3):
            draw(colour, 10 * i + j).save(folder / name / f"{j}.png")
    return folder


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command; return exit status, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["firstsight", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


class Untouchable:
    """Pixels that no sampler may ask for."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        raise AssertionError("a sampler asked for pixels")


@pytest.fixture
def labelled():
    """Make images, so many of each class, for a sampler to draw from."""

    def make(counts, *, quarter_turns=False):
        classes = [name for name, count in counts.items() for _ in range(count)]
        return LabelledImages(Untouchable(len(classes)), classes, quarter_turns=quarter_turns)

    return make

"""What the benchmarks claim of the bundled weights holds; skipped where the image sets are absent."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from engine.weights import BUNDLED, load_embedder


@pytest.fixture
def omniglot(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "benchmarks"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield importlib.import_module("omniglot")
    for name in ("omniglot", "data", "rows"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(not BUNDLED.exists(), reason="the package was built without its weights")
def test_the_bundled_weights_know_characters_of_new_alphabets_from_one_drawing(omniglot):
    try:
        right, trials = omniglot.lake(load_embedder("bundled"))
    except FileNotFoundError as absent:
        pytest.skip(str(absent))

    assert trials == 400
    assert right / trials >= 0.88


@pytest.mark.parametrize(("right", "low", "high"), [(368, 88.9, 94.3), (382, 93.0, 97.1), (392, 96.1, 99.0)])
def test_the_interval_of_a_share_is_wilsons(omniglot, right, low, high):
    assert omniglot.wilson(right, 400) == (pytest.approx(low, abs=0.06), pytest.approx(high, abs=0.06))

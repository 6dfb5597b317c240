"""A tiny world: 12-pixel pictures, and an embedder that projects 8x8 pixels at random."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from indexer import serving, trials, tuning
from indexer.gallery import Gallery

DIM = 16

settings.register_profile("patient", deadline=None)  # a busy machine is not a failure
settings.load_profile("patient")
faiss.omp_set_num_threads(1)  # threads that wait for each other make small tests slow on a busy machine


class Toy:
    dim = DIM
    fingerprint = "toy"
    projection = np.random.default_rng(0).normal(size=(192, DIM)).astype(np.float32)

    def __init__(self):
        self.embedded = 0

    def prepare(self, image):
        return np.asarray(image.resize((8, 8)), np.float32).ravel() / 255 - 0.5

    def embed(self, images):
        self.embedded += len(images)
        # Not a matrix product: its last digits would depend on who else is in the batch.
        vectors = np.einsum("ij,jk->ik", np.stack(images), self.projection)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_photo(path, seed):
    """Write a picture that only this seed gives."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def stored(gallery, embedder="toy"):
    """What the catalog holds, read past all of the program: {(name, hash, root, path): vector by that embedder}."""
    query = """
        SELECT names.name, images.hash, r.root, r.path, e.vector FROM "references" AS r
        JOIN images ON images.id = r.image_id JOIN names ON names.class_id = r.class_id
        JOIN embeddings AS e ON e.image_id = r.image_id
        JOIN embedders ON embedders.id = e.embedder_id AND embedders.fingerprint = ?
        WHERE r.went IS NULL AND names.went IS NULL
    """
    with closing(sqlite3.connect(Path(gallery) / "catalog.sqlite")) as connection:
        return {row[:4]: row[4] for row in connection.execute(query, (embedder,))}


@pytest.fixture
def model():
    return Toy()


@pytest.fixture
def photo():
    return write_photo


@pytest.fixture
def catalog_of():
    return stored


@pytest.fixture
def gallery(tmp_path):
    with Gallery.create(tmp_path / "birds.gallery", dim=DIM, fingerprint="toy", embedder={"weights": "toy"}) as made:
        yield made


@pytest.fixture
def random_units():
    def make(count, *, seed=0, dim=DIM):
        vectors = np.random.default_rng(seed).normal(size=(count, dim))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return make


@pytest.fixture
def with_a_byte_changed():
    """Return a function: the content of a file with each of its bytes changed, one at a time."""

    def each(whole):
        for place in range(len(whole)):
            yield whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]

    return each


@pytest.fixture
def with_bytes_missing_or_more():
    """Return a function: the content of a file cut at each place, and with something before or behind it."""

    def each(whole):
        yield from (whole[:length] for length in range(len(whole)))
        yield from (whole + b"\0", b"\0" + whole, whole + whole)

    return each


@pytest.fixture
def eager(monkeypatch):
    """A gallery asks its approximate index at once, and tries two kinds."""
    monkeypatch.setattr(serving, "PATIENCE", 0)
    monkeypatch.setattr(tuning, "factories", lambda count, dim: ["HNSW16,SQfp16", "IVF64,SQ8"])
    exact = tuning.exact_trial
    monkeypatch.setattr(tuning, "exact_trial", lambda vectors: replace(exact(vectors), microseconds=1e9))
    monkeypatch.setattr(trials, "TIMED", 2)
    monkeypatch.setattr(trials, "ROUNDS", 1)

"""A gallery as a dictionary: what it should hold after each revision, and what it should answer by brute force."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pictures

from indexer.errors import EmbedderMismatch


class State(NamedTuple):
    """What one revision holds."""

    references: dict = {}  # noqa: RUF012 - {(class name, number of the picture): whether it came with a folder}
    told: dict = {}  # noqa: RUF012 - {(class name, number of one of its pictures or None): attributes}
    embedder: str = "toy"

    def holding(self, references: dict) -> State:
        """These references instead; what is gone, and classes without any, have no attributes."""
        there = references.keys() | {(name, None) for name, _ in references}
        return self._replace(
            references=references, told={key: value for key, value in self.told.items() if key in there}
        )

    def telling(self, told: dict) -> State:
        """Other attributes at these places; None stands for none of a key."""
        changed = {
            place: {key: value for key, value in values.items() if value is not None} for place, values in told.items()
        }
        return self._replace(told={place: values for place, values in (self.told | changed).items() if values})


class Story(NamedTuple):
    """What every revision holds; the last one is what the gallery holds now, those before the oldest are forgotten."""

    states: tuple[State, ...] = (State(),)
    oldest: int = 0

    @property
    def state(self) -> State:
        return self.states[-1]

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    @property
    def written(self) -> tuple[int, int, State]:
        """What ``on_disk`` should find."""
        return self.revision, self.oldest, self.state

    def then(self, state: State) -> Story:
        """The story with one revision more, if anything has changed."""
        return self if state == self.state else self.revised(state)

    def revised(self, state: State) -> Story:
        return self._replace(states=(*self.states, state))

    def classes(self) -> list[str]:
        return sorted({name for name, _ in self.state.references})

    def of_class(self, name: str) -> list[int]:
        return sorted(number for other, number in self.state.references if other == name)


_EMBEDDER = """
    SELECT fingerprint FROM embedders WHERE id = coalesce(
        (SELECT embedder_id FROM upgrades WHERE went IS NULL), (SELECT min(id) FROM embedders))
"""
_REFERENCES = """
    SELECT names.name, images.hash, r.root, e.vector FROM "references" AS r
    JOIN images ON images.id = r.image_id JOIN names ON names.class_id = r.class_id
    LEFT JOIN embeddings AS e
        ON e.image_id = r.image_id AND e.embedder_id = (SELECT id FROM embedders WHERE fingerprint = ?)
    WHERE r.went IS NULL AND names.went IS NULL
"""
_TOLD = """
    SELECT names.name, images.hash, a.value FROM attributes AS a
    JOIN names ON names.class_id = a.class_id LEFT JOIN images ON images.id = a.image_id
    WHERE a.went IS NULL AND names.went IS NULL
"""


def on_disk(path: Path) -> tuple[int, int, State]:
    """The revision, the oldest and the state that the catalog holds, read past all of the program; right vectors."""
    with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
        oldest, revision = connection.execute("SELECT min(id), coalesce(max(id), 0) FROM revisions").fetchone()
        (embedder,) = connection.execute(_EMBEDDER).fetchone()
        references: dict = {}
        for name, content, root, vector in connection.execute(_REFERENCES, (embedder,)):
            number = pictures.numbers()[content]
            assert np.abs(np.frombuffer(vector, "<f4") - pictures.vector(number, embedder)).max() < 1e-6, number
            assert (name, number) not in references, f"{name} holds picture {number} twice"
            references[name, number] = root is not None
        told = {
            (name, content and pictures.numbers()[content]): json.loads(value)
            for name, content, value in connection.execute(_TOLD)
        }
    return revision, 0 if oldest in (None, 1) else oldest, State(references, told, embedder)


def check_answers(gallery, story: Story) -> None:
    """What the gallery says is what the dictionary says: counts, log, nearest references, nearest classes."""
    assert gallery.revision == story.revision
    assert [line.id for line in gallery.log()] == list(range(story.revision, max(story.oldest, 1) - 1, -1))
    _check_state(gallery, story, {})


def check_past(gallery, story: Story, revision: int) -> None:
    """What the gallery says of a revision is what the dictionary held then; with what differs, it is what it is now."""
    then = story._replace(states=story.states[: revision + 1])
    if then.state.embedder == story.state.embedder:
        _check_state(gallery, then, {"as_of": revision})
    else:
        assert_refused(gallery, story, revision)
    changed = gallery.diff(revision).classes
    listed = {one.before for one in changed}
    now = {key for key in then.state.references if key[0] not in listed}
    for one in changed:
        held, went, came = set(then.of_class(one.before)), _numbers(one.went), _numbers(one.came)
        assert went <= held
        assert came.isdisjoint(held)
        now |= {(one.after, number) for number in held - went | came}
    assert now == story.state.references.keys()


def assert_refused(gallery, story: Story, revision: int) -> None:
    """A query by today's embedder is not compared with the vectors of another."""
    try:
        gallery.search_references(pictures.vector(0, story.state.embedder), as_of=revision)
    except EmbedderMismatch:
        return
    raise AssertionError(f"revision {revision} answers an embedder that is not its own")


def _numbers(shown: list[str]) -> set[int]:
    return {int(Path(one).stem) for one in shown}


def _check_state(gallery, story: Story, when: dict) -> None:
    state, told = story.state.references, story.state.told
    query = pictures.vector(pictures.COUNT + story.revision, story.state.embedder)
    assert gallery.classes(**when) == {name: len(story.of_class(name)) for name in story.classes()}
    (hits,) = gallery.search_references(query, k=len(state) + 1, **when)
    _same({_key(hit): hit.score for hit in hits}, nearest(story.state, query), hits)
    for hit in hits:
        assert hit.attributes == {**told.get((hit.name, None), {}), **told.get(_key(hit), {})}
    (found,) = gallery.search_classes(query, k=len(state) + 1, **when)
    _same({hit.name: hit.score for hit in found.hits}, nearest_classes(story.state, query), found.hits)
    for hit in found.hits:
        assert hit.attributes == told.get((hit.name, None), {})


def _key(hit) -> tuple[str, int]:
    return hit.name, int(Path(hit.reference).stem)


def nearest(state: State, query) -> dict:
    """The cosine of each reference."""
    return {key: float(np.float64(pictures.vector(key[1], state.embedder)) @ query) for key in state.references}


def nearest_classes(state: State, query) -> dict:
    """The cosine of the mean of each class."""
    found = {}
    for name in {name for name, _ in state.references}:
        numbers = [number for other, number in state.references if other == name]
        mean = np.mean([np.float64(pictures.vector(number, state.embedder)) for number in numbers], axis=0)
        found[name] = float(mean @ query / np.linalg.norm(mean))
    return found


def _same(found: dict, expected: dict, hits: list) -> None:
    assert found.keys() == expected.keys()
    assert len(hits) == len(found)
    assert all(abs(found[key] - expected[key]) < 1e-5 for key in found)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)

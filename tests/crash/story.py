"""A gallery as a dictionary: what it should hold after each revision, and what it should answer by brute force."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pictures

State = dict  # {(class name, number of the picture): whether it came with a folder}


class Story(NamedTuple):
    """What every revision holds; the last one is what the gallery holds now."""

    states: tuple[State, ...] = ({},)

    @property
    def state(self) -> State:
        return self.states[-1]

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def then(self, state: State) -> Story:
        """The story with one revision more, if anything has changed."""
        return self if state == self.state else self.revised(state)

    def revised(self, state: State) -> Story:
        return self._replace(states=(*self.states, state))

    def classes(self) -> list[str]:
        return sorted({name for name, _ in self.state})

    def of_class(self, name: str) -> list[int]:
        return sorted(number for other, number in self.state if other == name)


def on_disk(path: Path) -> tuple[int, State]:
    """The revision and the state that the catalog holds, read past all of the program; the vectors must be right."""
    rows = """
        SELECT names.name, images.hash, r.root, e.vector FROM "references" AS r
        JOIN images ON images.id = r.image_id JOIN names ON names.class_id = r.class_id
        JOIN embeddings AS e ON e.image_id = r.image_id
        WHERE r.went IS NULL AND names.went IS NULL
    """
    with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
        (revision,) = connection.execute("SELECT coalesce(max(id), 0) FROM revisions").fetchone()
        state = {}
        for name, content, root, vector in connection.execute(rows):
            number = pictures.numbers()[content]
            assert np.abs(np.frombuffer(vector, "<f4") - pictures.vector(number)).max() < 1e-6, number
            assert (name, number) not in state, f"{name} holds picture {number} twice"
            state[name, number] = root is not None
    return revision, state


def check_answers(gallery, story: Story) -> None:
    """What the gallery says is what the dictionary says: counts, log, nearest references, nearest classes."""
    assert gallery.revision == story.revision
    assert [line.id for line in gallery.log()] == list(range(story.revision, 0, -1))
    _check_state(gallery, story, {})


def check_past(gallery, story: Story, revision: int) -> None:
    """What the gallery says of a revision is what the dictionary held then; with what differs, it is what it is now."""
    then = story._replace(states=story.states[: revision + 1])
    _check_state(gallery, then, {"as_of": revision})
    changed = gallery.diff(revision).classes
    listed = {one.before for one in changed}
    now = {key for key in then.state if key[0] not in listed}
    for one in changed:
        held, went, came = set(then.of_class(one.before)), _numbers(one.went), _numbers(one.came)
        assert went <= held
        assert came.isdisjoint(held)
        now |= {(one.after, number) for number in held - went | came}
    assert now == story.state.keys()


def _numbers(shown: list[str]) -> set[int]:
    return {int(Path(one).stem) for one in shown}


def _check_state(gallery, story: Story, when: dict) -> None:
    state, query = story.state, pictures.vector(pictures.COUNT + story.revision)
    assert gallery.classes(**when) == {name: len(story.of_class(name)) for name in story.classes()}
    (hits,) = gallery.search_references(query, k=len(state) + 1, **when)
    _same({(hit.name, int(Path(hit.reference).stem)): hit.score for hit in hits}, nearest(state, query), hits)
    (found,) = gallery.search_classes(query, k=len(state) + 1, **when)
    _same({hit.name: hit.score for hit in found.hits}, nearest_classes(state, query), found.hits)


def nearest(state: State, query) -> dict:
    """The cosine of each reference."""
    return {key: float(np.float64(pictures.vector(key[1])) @ query) for key in state}


def nearest_classes(state: State, query) -> dict:
    """The cosine of the mean of each class."""
    found = {}
    for name in {name for name, _ in state}:
        mean = np.mean([np.float64(pictures.vector(number)) for other, number in state if other == name], axis=0)
        found[name] = float(mean @ query / np.linalg.norm(mean))
    return found


def _same(found: dict, expected: dict, hits: list) -> None:
    assert found.keys() == expected.keys()
    assert len(hits) == len(found)
    assert all(abs(found[key] - expected[key]) < 1e-5 for key in found)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)

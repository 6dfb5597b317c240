"""What a writer may do to a gallery: each operation is drawn by dice, told to the dictionary and done to the gallery.

To add one: a class with the three functions, and its line in ``OPERATIONS``. Arguments are what JSON can hold.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pictures
from story import Story

from indexer import build
from indexer.gallery import Gallery

NAMES = ("heron", "egret", "ibis", "spoonbill", "crane", "stork", "Große Möwe")

Arguments = dict[str, Any]


class Operation(Protocol):
    """One thing a writer does."""

    @staticmethod
    def draw(dice: Random, story: Story) -> Arguments | None:
        """Arguments by chance; None if it cannot be done now."""

    @staticmethod
    def tell(story: Story, arguments: Arguments) -> Story:
        """The story after it."""

    @staticmethod
    def act(gallery: Gallery, arguments: Arguments) -> object:
        """Do it."""


class Learn:
    @staticmethod
    def draw(dice, story):
        return {"name": dice.choice(NAMES), "numbers": dice.sample(range(pictures.COUNT), dice.choice((1, 1, 2, 5)))}

    @staticmethod
    def tell(story, arguments):
        come = {(arguments["name"], number): False for number in arguments["numbers"]}
        return story.then(come | story.state)

    @staticmethod
    def act(gallery, arguments):
        gallery.add(
            arguments["name"],
            [(pictures.content(number), f"{number}.png", pictures.vector(number)) for number in arguments["numbers"]],
        )


class Forget:
    @staticmethod
    def draw(dice, story):
        if not story.state:
            return None
        name = dice.choice(story.classes())
        held = story.of_class(name)
        return {"name": name, "numbers": dice.choice((None, dice.sample(held, dice.randint(1, len(held)))))}

    @staticmethod
    def tell(story, arguments):
        name, numbers = arguments["name"], arguments["numbers"]
        gone = {key for key in story.state if key[0] == name and (numbers is None or key[1] in numbers)}
        return story.then({key: value for key, value in story.state.items() if key not in gone})

    @staticmethod
    def act(gallery, arguments):
        numbers = arguments["numbers"]
        gallery.remove(arguments["name"], hashes=numbers and [pictures.content(number) for number in numbers])


class Rename:
    @staticmethod
    def draw(dice, story):
        free = sorted(set(NAMES) - set(story.classes()))
        return {"old": dice.choice(story.classes()), "new": dice.choice(free)} if story.state and free else None

    @staticmethod
    def tell(story, arguments):
        old, new = arguments["old"], arguments["new"]
        return story.then({(new if name == old else name, n): value for (name, n), value in story.state.items()})

    @staticmethod
    def act(gallery, arguments):
        gallery.rename(arguments["old"], arguments["new"])


class Undo:
    @staticmethod
    def draw(dice, story):
        return {} if story.revision else None

    @staticmethod
    def tell(story, arguments):
        return story.revised(story.states[-2])

    @staticmethod
    def act(gallery, arguments):
        gallery.undo()


class Index:
    """A folder beside the gallery, made anew each time."""

    @staticmethod
    def draw(dice, story):
        held = {key for key, indexed in story.state.items() if indexed and dice.random() < 0.7}
        fresh = {(dice.choice(NAMES), dice.randrange(pictures.COUNT)) for _ in range(dice.choice((1, 3, 10)))}
        return {"files": sorted(held | fresh)}

    @staticmethod
    def tell(story, arguments):
        learnt = {key: False for key, indexed in story.state.items() if not indexed}
        return story.then({(name, number): True for name, number in arguments["files"]} | learnt)

    @staticmethod
    def act(gallery, arguments):
        folder = gallery.path.with_name("photos")
        shutil.rmtree(folder, ignore_errors=True)
        for name, number in arguments["files"]:
            path = Path(folder, name, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures.file(number))
        build.index(gallery, folder, pictures.Toy(), batch_size=4, workers=2)


class Save:
    @staticmethod
    def draw(dice, story):
        return {}

    @staticmethod
    def tell(story, arguments):
        return story

    @staticmethod
    def act(gallery, arguments):
        gallery.save_views()


class Ask:
    """A writer that also answers has a snapshot to catch up."""

    draw = Save.draw
    tell = Save.tell

    @staticmethod
    def act(gallery, arguments):
        gallery.search_references(pictures.vector(0), k=1)


OPERATIONS: dict[str, type[Operation]] = {
    "learn": Learn,
    "forget": Forget,
    "rename": Rename,
    "undo": Undo,
    "index": Index,
    "save": Save,
    "ask": Ask,
}


def drawn(dice: Random, story: Story, names=tuple(OPERATIONS)) -> tuple[str, Arguments]:
    """An operation that can be done now."""
    while True:
        name = dice.choice(names)
        arguments = OPERATIONS[name].draw(dice, story)
        if arguments is not None:
            return name, arguments

"""What a writer may do to a gallery: each operation is drawn by dice, told to the dictionary and done to the gallery.

To add one: a class with the three functions, and its line in ``OPERATIONS``. Arguments are what JSON can hold.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pictures
from deeds import learn, told, written
from story import Story

from indexer import build
from indexer.gallery import Gallery
from indexer.merging import merge
from indexer.upgrading import upgrade

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
        return story.then(story.state.holding(come | story.state.references))

    @staticmethod
    def act(gallery, arguments):
        learn(gallery, arguments["name"], arguments["numbers"])


class Forget:
    @staticmethod
    def draw(dice, story):
        if not story.state.references:
            return None
        name = dice.choice(story.classes())
        held = story.of_class(name)
        return {"name": name, "numbers": dice.choice((None, dice.sample(held, dice.randint(1, len(held)))))}

    @staticmethod
    def tell(story, arguments):
        name, numbers = arguments["name"], arguments["numbers"]
        held = story.state.references
        gone = {key for key in held if key[0] == name and (numbers is None or key[1] in numbers)}
        return story.then(story.state.holding({key: value for key, value in held.items() if key not in gone}))

    @staticmethod
    def act(gallery, arguments):
        numbers = arguments["numbers"]
        gallery.remove(arguments["name"], hashes=numbers and [pictures.content(number) for number in numbers])


class Rename:
    @staticmethod
    def draw(dice, story):
        free = sorted(set(NAMES) - set(story.classes()))
        named = story.classes()
        return {"old": dice.choice(named), "new": dice.choice(free)} if named and free else None

    @staticmethod
    def tell(story, arguments):
        old, new = arguments["old"], arguments["new"]

        def renamed(by_place):
            return {(new if name == old else name, number): value for (name, number), value in by_place.items()}

        state = story.state
        return story.then(state._replace(references=renamed(state.references), told=renamed(state.told)))

    @staticmethod
    def act(gallery, arguments):
        gallery.rename(arguments["old"], arguments["new"])


class Undo:
    @staticmethod
    def draw(dice, story):
        return {} if story.revision > story.oldest else None

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
        came = {key for key, indexed in story.state.references.items() if indexed}
        held = {key for key in sorted(came) if dice.random() < 0.7}
        fresh = {(dice.choice(NAMES), dice.randrange(pictures.COUNT)) for _ in range(dice.choice((1, 3, 10)))}
        if story.state.told:  # attributes go where contents move to: that story is told by the tests of attributes
            left = {number for _, number in came - held}
            fresh = {key for key in fresh if key[1] not in left}
        return {"files": sorted(held | fresh)}

    @staticmethod
    def tell(story, arguments):
        learnt = {key: False for key, indexed in story.state.references.items() if not indexed}
        return story.then(story.state.holding({(name, number): True for name, number in arguments["files"]} | learnt))

    @staticmethod
    def act(gallery, arguments):
        folder = gallery.path.with_name("photos")
        shutil.rmtree(folder, ignore_errors=True)
        for name, number in arguments["files"]:
            written(folder / name / f"{number}.png", number)
        build.index(gallery, folder, pictures.EMBEDDERS[gallery.fingerprint], batch_size=4, workers=2)


class Set:
    """Attributes of a class, or of one of its references."""

    @staticmethod
    def draw(dice, story):
        if not story.state.references:
            return None
        name, number = dice.choice(sorted(story.state.references))
        return {"name": name, "number": dice.choice((None, number)), "changes": told(dice)}

    @staticmethod
    def tell(story, arguments):
        place = arguments["name"], arguments["number"]
        return story.then(story.state.telling({place: {**story.state.told.get(place, {}), **arguments["changes"]}}))

    @staticmethod
    def act(gallery, arguments):
        number = arguments["number"]
        hash = None if number is None else pictures.content(number)
        gallery.set(arguments["name"], arguments["changes"], hash=hash)


class Compact:
    @staticmethod
    def draw(dice, story):
        return {"keep": dice.randint(1, 4)}

    @staticmethod
    def tell(story, arguments):
        oldest = max(story.oldest, story.revision - arguments["keep"] + 1)
        return story._replace(oldest=oldest) if oldest > 1 else story

    @staticmethod
    def act(gallery, arguments):
        gallery.compact(**arguments)


class Merge:
    """Another gallery, beside this one, made anew each time."""

    @staticmethod
    def draw(dice, story):
        places = {(dice.choice(NAMES), dice.randrange(pictures.COUNT)) for _ in range(dice.choice((1, 3, 10)))}
        described = [[name, dice.choice((None, number)), told(dice)] for name, number in sorted(places)[::2]]
        return {"references": sorted(places), "told": described}

    @staticmethod
    def tell(story, arguments):
        come = {(name, number): False for name, number in arguments["references"]}
        state = story.state.holding(come | story.state.references)
        theirs: dict = {}
        for name, number, values in arguments["told"]:
            theirs.setdefault((name, number), {}).update(values)
        there = {
            place: {key: value for key, value in values.items() if value is not None}
            for place, values in theirs.items()
        }
        return story.then(state.telling({place: values | state.told.get(place, {}) for place, values in there.items()}))

    @staticmethod
    def act(gallery, arguments):
        path = gallery.path.with_name("other.gallery")
        shutil.rmtree(path, ignore_errors=True)
        with Gallery.create(path, dim=gallery.dim, fingerprint=gallery.fingerprint) as other:
            for name, number in arguments["references"]:
                learn(other, name, [number])
            for name, number, values in arguments["told"]:
                Set.act(other, {"name": name, "number": number, "changes": values})
        merge(gallery.path, path)


class Upgrade:
    """To the other of two embedders; all images are where they were."""

    @staticmethod
    def draw(dice, story):
        (other,) = pictures.EMBEDDERS.keys() - {story.state.embedder}
        return {"embedder": other}

    @staticmethod
    def tell(story, arguments):
        return story.then(story.state._replace(embedder=arguments["embedder"]))

    @staticmethod
    def act(gallery, arguments):
        for one in gallery.references():
            written(Path(one.root or "", one.path), pictures.numbers()[one.hash])
        upgrade(gallery.path, pictures.EMBEDDERS[arguments["embedder"]], batch_size=4, workers=2)


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
        gallery.search_references(pictures.vector(0, gallery.fingerprint), k=1)


OPERATIONS: dict[str, type[Operation]] = {
    "learn": Learn,
    "forget": Forget,
    "rename": Rename,
    "undo": Undo,
    "index": Index,
    "set": Set,
    "compact": Compact,
    "merge": Merge,
    "upgrade": Upgrade,
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

"""Whatever is done to a gallery, in whatever order, it is the dictionary that the same was done to.

``FIRSTSIGHT_STORIES`` says how many stories to tell; ``make crash-test`` tells more than the suite.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from random import Random

import pictures
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from operations import NAMES, OPERATIONS, drawn
from story import Story, check_answers, on_disk

from indexer.errors import ClassExists, ClassMissing, GalleryError
from indexer.gallery import Gallery

STORIES = int(os.environ.get("FIRSTSIGHT_STORIES", "8"))


class Living(RuleBasedStateMachine):
    """A gallery, a second one opened on the same folder, and the dictionary."""

    def __init__(self):
        super().__init__()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(dir=memory))
        self.path = self.folder / "birds.gallery"
        self.story = Story()
        self.gallery = Gallery.create(self.path, dim=pictures.DIM, fingerprint="toy")
        self.reader = Gallery.open(self.path)

    def teardown(self):
        self.gallery.close()
        self.reader.close()
        shutil.rmtree(self.folder)

    @rule(seed=st.integers(0, 2**32), name=st.sampled_from(sorted(OPERATIONS)))
    def something_is_done(self, seed, name):
        dice = Random(seed)
        arguments = OPERATIONS[name].draw(dice, self.story)
        if arguments is None:
            name, arguments = drawn(dice, self.story)
        OPERATIONS[name].act(self.gallery, arguments)
        self.story = OPERATIONS[name].tell(self.story, arguments)
        assert on_disk(self.path) == (self.story.revision, self.story.state)

    @rule()
    def it_is_opened_again(self):
        self.gallery.close()
        self.gallery = Gallery.open(self.path)

    @rule()
    def the_writer_and_the_reader_change_places(self):
        self.gallery, self.reader = self.reader, self.gallery

    @rule(name=st.sampled_from(NAMES))
    def what_is_not_there_cannot_be_forgotten_or_renamed(self, name):
        if name not in self.story.classes():
            with pytest.raises(ClassMissing):
                self.gallery.remove(name)
            with pytest.raises(ClassMissing):
                self.gallery.rename(name, "another")

    @precondition(lambda self: len(self.story.classes()) > 1)
    @rule(seed=st.integers(0, 2**32))
    def no_class_takes_the_name_of_another(self, seed):
        one, other = Random(seed).sample(self.story.classes(), 2)
        with pytest.raises(ClassExists):
            self.gallery.rename(one, other.upper())

    @precondition(lambda self: not self.story.revision)
    @rule()
    def there_is_nothing_to_undo(self):
        with pytest.raises(GalleryError, match="nothing to undo"):
            self.gallery.undo()

    @rule()
    def the_writer_answers(self):
        check_answers(self.gallery, self.story)

    @rule()
    def the_reader_answers(self):
        check_answers(self.reader, self.story)

    @rule()
    def everything_is_sound(self):
        assert self.gallery.verify() == []
        assert self.reader.verify() == []


Living.TestCase.settings = settings(max_examples=STORIES, stateful_step_count=25, deadline=None)


class TestAGalleryIsTheDictionaryThatTheSameWasDoneTo(Living.TestCase):
    pass

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
from deeds import current
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from operations import NAMES, OPERATIONS
from story import Story, check_answers, check_past, on_disk

from indexer.errors import ClassExists, ClassMissing, GalleryError
from indexer.gallery import Gallery

STORIES = int(os.environ.get("FIRSTSIGHT_STORIES", "4"))


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

    @rule(seed=st.integers(0, 2**32), names=st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=6))
    def something_is_done(self, seed, names):
        dice = Random(seed)
        for name in names:
            arguments = OPERATIONS[name].draw(dice, self.story)
            if arguments is not None:
                self.gallery = current(self.gallery)
                OPERATIONS[name].act(self.gallery, arguments)
                self.story = OPERATIONS[name].tell(self.story, arguments)
                assert on_disk(self.path) == self.story.written
        self.gallery, self.reader = current(self.gallery), current(self.reader)

    @rule()
    def it_is_opened_again(self):
        self.gallery.close()
        self.gallery = Gallery.open(self.path)

    @rule()
    def the_writer_and_the_reader_change_places(self):
        self.gallery, self.reader = self.reader, self.gallery

    @rule(name=st.sampled_from(NAMES))
    def what_cannot_be_is_refused(self, name):
        if name in self.story.classes():
            for other in set(self.story.classes()) - {name}:
                with pytest.raises(ClassExists):
                    self.gallery.rename(other, name.upper())
        else:
            with pytest.raises(ClassMissing):
                self.gallery.remove(name)
            with pytest.raises(ClassMissing):
                self.gallery.rename(name, "another")
        if self.story.revision == self.story.oldest:
            with pytest.raises(GalleryError, match="nothing to undo"):
                self.gallery.undo()

    @rule()
    def both_answer(self):
        check_answers(self.gallery, self.story)
        check_answers(self.reader, self.story)

    @rule(seed=st.integers(0, 2**32))
    def the_past_is_as_it_was(self, seed):
        revision = Random(seed).randint(self.story.oldest, self.story.revision)
        check_past(self.gallery, self.story, revision)
        check_past(self.reader, self.story, revision)

    @rule()
    def everything_is_sound(self):
        assert self.gallery.verify() == []
        assert self.reader.verify() == []


Living.TestCase.settings = settings(max_examples=STORIES, stateful_step_count=25, deadline=None)


class TestAGalleryIsTheDictionaryThatTheSameWasDoneTo(Living.TestCase):
    pass

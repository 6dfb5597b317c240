from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import pages_file
from indexer.pages import Pages
from indexer.sealed import Label, NoView

LABEL = Label("known.pages", "a" * 32, 7, "b" * 32)
MAKES = {"pairs": tuple, "texts": str}

keys = st.one_of(st.integers(0, 20), st.integers(500, 520), st.integers(0, 1 << 40))
texts = st.text(st.characters(codec=None), max_size=5)  # lone surrogates too: names of files can have them
pairs = st.tuples(st.integers(), texts)


def load(path, *, makes=MAKES, what=LABEL.what, gallery=LABEL.gallery):
    """Load it, and ask for all that is in it."""
    mappings, label = pages_file.load(path, makes, what=what, gallery=gallery)
    return {name: dict(pages) for name, pages in mappings.items()}, label


@given(st.dictionaries(keys, pairs), st.dictionaries(keys, texts))
def test_what_is_loaded_is_what_was_saved(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("made") / "known.pages"
    pages_file.save({"pairs": Pages(first.items()), "texts": Pages(second.items())}, path, LABEL)

    assert load(path) == ({"pairs": first, "texts": second}, LABEL)


@pytest.fixture
def path(tmp_path):
    some = Pages((key, (key, str(key))) for key in (1, 2, 600))
    pages_file.save({"pairs": some, "texts": Pages([(1, "one")])}, tmp_path / "known.pages", LABEL)
    return tmp_path / "known.pages"


def test_no_byte_can_change_unnoticed(path, with_a_byte_changed):
    for damaged in with_a_byte_changed(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(NoView):
            load(path)


def test_no_byte_can_be_missing_or_too_many(path, with_bytes_missing_or_more):
    for damaged in with_bytes_missing_or_more(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(NoView):
            load(path)


def test_a_file_of_something_else_is_not_believed(path):
    for other in ({"what": "references.faiss"}, {"gallery": "c" * 32}, {"makes": {"pairs": tuple}}):
        with pytest.raises(NoView, match="something else"):
            load(path, **other)

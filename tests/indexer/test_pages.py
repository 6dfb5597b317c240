from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from indexer.pages import Pages

keys = st.one_of(st.integers(0, 20), st.integers(500, 520), st.integers(0, 1 << 40))
changes = st.lists(st.dictionaries(keys, st.one_of(st.none(), st.integers())), max_size=8)


@given(st.dictionaries(keys, st.integers()), changes)
def test_every_version_is_what_a_dictionary_was_then(first, steps):
    pages, expected = Pages(first.items()), dict(first)
    versions = [(pages, expected)]
    for values in steps:
        pages = pages.changed(values)
        merged = expected | values
        expected = {key: value for key, value in merged.items() if value is not None}
        versions.append((pages, expected))

    for pages, expected in versions:
        assert dict(pages) == expected
        assert len(pages) == len(expected)
        assert all(key in pages for key in expected)
        assert -1 not in pages


def test_a_change_copies_no_page_that_it_does_not_touch():
    before = Pages((key, str(key)) for key in range(2000))

    after = before.changed({5: "five"})

    shared = [page for place, page in after._pages.items() if page is before._pages[place]]
    assert len(shared) == len(after._pages) - 1

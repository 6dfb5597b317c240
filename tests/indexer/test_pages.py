from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from indexer.pages import Pages

keys = st.one_of(st.integers(0, 20), st.integers(500, 520), st.integers(0, 1 << 40))
changes = st.lists(st.dictionaries(keys, st.one_of(st.none(), st.integers())), max_size=8)


def lazy(first):
    """The same, whose pages are fetched when asked for."""
    whole = Pages(first.items())
    return Pages.lazy(
        {place: len(whole.page(place)) for place in whole.places()}, lambda place: dict(whole.page(place))
    )


@given(st.dictionaries(keys, st.integers()), changes, st.sampled_from([lambda first: Pages(first.items()), lazy]))
def test_every_version_is_what_a_dictionary_was_then(first, steps, make):
    pages, expected = make(first), dict(first)
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


def test_pages_are_fetched_when_they_are_asked_for_and_then_no_more():
    fetched = []

    def fetch(place):
        fetched.append(place)
        return {(place << 9) + number: number for number in range(512)}

    pages = Pages.lazy({place: 512 for place in range(4)}, fetch)

    assert len(pages) == 2048
    assert fetched == []
    assert pages[513] == pages[514] - 1
    assert pages.changed({1030: 7})[1030] == 7
    assert fetched == [1, 2]
    assert sum(1 for _ in pages) == 2048
    assert fetched == [1, 2, 0, 3]


def test_pages_that_are_passed_or_long_not_asked_for_are_not_kept(monkeypatch):
    monkeypatch.setattr("indexer.pages.KEPT", 2)
    fetched = []

    def fetch(place):
        fetched.append(place)
        return {place << 9: place}

    pages = Pages.lazy(dict.fromkeys(range(4), 1), fetch).changed({512: "one"})
    fetched.clear()

    assert list(pages.passing()) == [(0, {0: 0}), (1, {512: "one"}), (2, {1024: 2}), (3, {1536: 3})]
    assert list(pages.passing()) == list(pages.passing())
    fetched.clear()
    for key in (0, 1024, 0, 1024, 512, 1536, 1024, 0):
        assert key in pages
    assert fetched == [0, 2, 3, 0]

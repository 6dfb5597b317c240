"""A mapping from numbers that never changes: a changed one is another, which shares all but the pages that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Self, TypeVar

BITS = 9  # 512 keys a page: a change of one key copies a page and the list of pages, microseconds up to millions
KEPT = 4096  # pages that were fetched: two million values, of a hit about 0.5 kB each

Value = TypeVar("Value")
_NONE: dict[int, int] = {}


class Pages(Mapping[int, Value]):
    """Values by ids, which are mostly dense: counted up from 1."""

    __slots__ = ("_elsewhere", "_fetch", "_length", "_pages")

    def __init__(self, items: Iterable[tuple[int, Value]] = ()) -> None:
        self._pages: dict[int, dict[int, Value]] = {}
        for key, value in items:
            self._pages.setdefault(key >> BITS, {})[key] = value
        self._length = sum(map(len, self._pages.values()))
        self._elsewhere: Mapping[int, int] = _NONE
        self._fetch: Any = None  # of those that are elsewhere; remembers the last

    @classmethod
    def lazy(cls, lengths: Mapping[int, int], fetch: Callable[[int], dict[int, Value]]) -> Self:
        """Return a mapping whose pages are fetched when asked for; those asked for last are kept.

        Args:
            lengths: of the pages that there are, by their number.
            fetch: returns a page; called now and again, from any thread.
        """
        pages = cls()
        pages._elsewhere, pages._fetch, pages._length = lengths, lru_cache(KEPT)(fetch), sum(lengths.values())
        return pages

    def __getitem__(self, key: int) -> Value:
        page = self._pages.get(key >> BITS)  # the way of each query, without a call
        return (self.page(key >> BITS) if page is None else page)[key]

    def __contains__(self, key: object) -> bool:
        """Return whether there is such a key: far cheaper than the KeyError of one that is not here."""
        if not self._length or not isinstance(key, int):
            return False
        place = key >> BITS
        return (place in self._pages or place in self._elsewhere) and key in self.page(place)

    def __iter__(self) -> Iterator[int]:
        for place in self.places():
            yield from self.page(place)

    def __len__(self) -> int:
        return self._length

    def places(self) -> list[int]:
        """Return the numbers of the pages, ascending."""
        return sorted(self._pages.keys() | self._elsewhere.keys())

    def page(self, place: int) -> dict[int, Value]:
        """Return a page, not to be changed; KeyError if there is none of that number."""
        page = self._pages.get(place)
        if page is not None:
            return page
        if place not in self._elsewhere:
            raise KeyError(place)
        fetched: dict[int, Value] = self._fetch(place)
        return fetched

    def passing(self) -> Iterator[tuple[int, dict[int, Value]]]:
        """Yield the numbers, ascending, and the pages; none is kept that is not kept anyway."""
        for place in self.places():
            page = self._pages.get(place)
            yield place, self._fetch.__wrapped__(place) if page is None else page

    def changed(self, values: Mapping[int, Value | None]) -> Self:
        """Return this mapping with other values under these keys; those under which there is None are gone."""
        other = type(self)()
        other._pages, other._length = self._pages.copy(), self._length
        other._elsewhere, other._fetch = self._elsewhere, self._fetch
        own: set[int] = set()
        for key, value in values.items():
            place = key >> BITS
            if place not in own:
                own.add(place)
                here = place in self._pages or place in self._elsewhere
                other._pages[place] = self.page(place).copy() if here else {}
            other._put(other._pages[place], key, value)
        return other

    def _put(self, page: dict[int, Value], key: int, value: Value | None) -> None:
        self._length += (value is not None) - (key in page)
        if value is None:
            page.pop(key, None)
        else:
            page[key] = value

"""A mapping from numbers that never changes: a changed one is another, which shares all but the pages that differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Self, TypeVar

BITS = 9  # 512 keys a page: a change of one key copies a page and the list of pages, microseconds up to millions

Value = TypeVar("Value")


class Pages(Mapping[int, Value]):
    """Values by ids, which are mostly dense: counted up from 1."""

    __slots__ = ("_length", "_pages")

    def __init__(self, items: Iterable[tuple[int, Value]] = ()) -> None:
        self._pages: dict[int, dict[int, Value]] = {}
        for key, value in items:
            self._pages.setdefault(key >> BITS, {})[key] = value
        self._length = sum(map(len, self._pages.values()))

    def __getitem__(self, key: int) -> Value:
        return self._pages[key >> BITS][key]

    def __iter__(self) -> Iterator[int]:
        for page in self._pages.values():
            yield from page

    def __len__(self) -> int:
        return self._length

    def changed(self, values: Mapping[int, Value | None]) -> Self:
        """Return this mapping with other values under these keys; those under which there is None are gone."""
        other = type(self)()
        other._pages, other._length = self._pages.copy(), self._length
        own: set[int] = set()
        for key, value in values.items():
            place = key >> BITS
            if place not in own:
                own.add(place)
                other._pages[place] = self._pages.get(place, {}).copy()
            other._put(other._pages[place], key, value)
        return other

    def _put(self, page: dict[int, Value], key: int, value: Value | None) -> None:
        self._length += (value is not None) - (key in page)
        if value is None:
            page.pop(key, None)
        else:
            page[key] = value

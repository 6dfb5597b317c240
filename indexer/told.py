"""What is known beside names and vectors, of one revision, in memory: nothing for what has nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from indexer import attributes
from indexer.attributes import Attributes
from indexer.pages import Pages
from indexer.reader import Reader


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of classes, by class id, and of references, by reference id; it never changes.

    Memory: about 0.4 kB for each that has some.

    Attributes:
        of_class: attributes of classes.
        own: those of references.
        mapped: the references whose vectors an upgrade mapped.
    """

    of_class: Pages[Attributes]
    own: Pages[Attributes]
    mapped: Pages[bool]

    @classmethod
    def load(cls, reader: Reader) -> Told:
        """Return all that the reader's revision has."""
        of_class, own = Pages(attributes.of_classes(reader)), Pages(attributes.of_references(reader))
        return cls(of_class, own, Pages((id, True) for id in sorted(reader.mapped())))

    def renewed(self, reader: Reader, since: int, *, came: Collection[int], went: Collection[int]) -> Told:
        """Return what the reader's revision has, this being that of revision ``since``.

        Args:
            reader: at the later revision.
            since: the revision of this.
            came: ids of the references that came since, and ...
            went: of those that went.
        """
        class_ids, ids = attributes.touched_since(reader, since)
        own: dict[int, Attributes | None] = {id: None for id in went if id in self.own}
        own |= dict.fromkeys(ids) | dict(attributes.of_references(reader, ids.union(came)))
        of_class: dict[int, Attributes | None] = dict.fromkeys(class_ids)
        of_class |= dict(attributes.of_classes(reader, class_ids))
        mapped: dict[int, bool | None] = {id: None for id in went if id in self.mapped}
        mapped |= dict.fromkeys(reader.mapped(came), True)
        return Told(
            self.of_class.changed(of_class) if of_class else self.of_class,
            self.own.changed(own) if own else self.own,
            self.mapped.changed(mapped) if mapped else self.mapped,
        )

    def attributes_of_class(self, class_id: int) -> Attributes:
        """Return a copy of the attributes of a class."""
        return attributes.copied(self.of_class[class_id]) if class_id in self.of_class else {}

    def merged(self, class_id: int, id: int) -> Attributes:
        """Return a copy of the attributes of a reference: its own, over those of its class."""
        found = self.attributes_of_class(class_id)
        return found | attributes.copied(self.own[id]) if id in self.own else found

"""Files in blocks that are checked when they are first read: opening one costs the same however large it is.

Blocks of bytes follow one another. Then comes a directory, in JSON: what the file says of itself, and the length and
SHA-256 of each block; at the end the length of the directory and its SHA-256. A byte that changed is noticed before it
is believed, and one that nobody asks for costs nobody anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from indexer import regular
from indexer.regular import NotRegular

MAGIC = b"1STSEAL1"
BLOCK = 1 << 20  # bytes of what comes in pieces
_END = struct.Struct("<8sQ32s")  # magic, bytes of the directory, its sum
_WRONG = (ValueError, KeyError, TypeError, RecursionError)  # what a directory raises that is none


class NoView(Exception):
    """The file is not there or cannot be believed; the message says why."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a view shows: ``what`` of which gallery, at which revision of its history."""

    what: str
    gallery: str
    revision: int
    mark: str

    @classmethod
    def read(cls, file: Sealed, *, what: str, gallery: str) -> Label:
        """Return the label in a file's facts; NoView unless it shows ``what`` of this gallery."""
        label = cls(*(file.facts.get(field.name) for field in fields(cls)))  # type: ignore[arg-type]  # only compared
        if (label.what, label.gallery) != (what, gallery):
            raise NoView("shows something else")
        return label


class Sealing:
    """Writes blocks to a file that is open for writing, and seals it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._blocks: list[tuple[int, str]] = []

    def add(self, data: Any) -> None:
        """Write a block: bytes, or an array as it lies in memory."""
        memory = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self._file.write(memory)
        self._blocks.append((len(memory), hashlib.sha256(memory).hexdigest()))

    def stream(self, write: Callable[[Callable[[Any], int]], object]) -> int:
        """Let ``write`` hand on bytes in pieces of any length, and make blocks of them; return how many."""
        pieces, before = bytearray(), len(self._blocks)

        def take(data: Any) -> int:
            pieces.extend(data)
            while len(pieces) >= BLOCK:
                self.add(bytes(pieces[:BLOCK]))
                del pieces[:BLOCK]
            return len(data)

        write(take)
        self.add(bytes(pieces))
        return len(self._blocks) - before

    def seal(self, facts: Mapping[str, Any]) -> None:
        """Write the directory; the file is whole then."""
        directory = json.dumps({"facts": facts, "blocks": self._blocks}, separators=(",", ":")).encode()
        self._file.write(directory)
        self._file.write(_END.pack(MAGIC, len(directory), hashlib.sha256(directory).digest()))


class Sealed:
    """A sealed file, open for reading; several threads may.

    Attributes:
        facts: what the file says of itself.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; NoView unless it is there and as long as it should be, with a directory that is whole."""
        try:
            self._file, self._reading = regular.opened(path).detach(), threading.Lock()
            weakref.finalize(self, self._file.close)  # open for as long as something has not been read
            self._read_directory()
        except FileNotFoundError as error:
            raise NoView("is missing") from error
        except NotRegular as error:
            raise NoView(str(error)) from error
        except OSError as error:
            raise NoView(f"cannot be read ({error})") from error

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._lengths)

    def length(self, block: int) -> int:
        """Return the number of bytes in a block."""
        return self._lengths[block]

    def start(self, block: int) -> int:
        """Return the place in the file of a block's first byte."""
        return self._starts[block]

    def fileno(self) -> int:
        """Return the descriptor of the file, which is open."""
        return self._file.fileno()

    def check(self, block: int) -> None:
        """Raise NoView unless a block is as it was written. Read it is, not looked at where it may be mapped to.

        For so a disk that fails says it with an error, and does not end the process.
        """
        self.read_into(block, memoryview(bytearray(self._lengths[block])))

    def read(self, block: int) -> bytes:
        """Return a block; NoView unless it is as it was written."""
        data = bytearray(self._lengths[block])
        self.read_into(block, memoryview(data))
        return bytes(data)

    def read_into(self, block: int, memory: memoryview) -> None:
        """Read a block into memory of its length; NoView unless it is as it was written."""
        filled = 0
        try:
            with self._reading:
                self._file.seek(self._starts[block])
                while filled < len(memory) and (more := self._file.readinto(memory[filled:])):
                    filled += more
        except OSError as error:
            raise NoView(f"cannot be read ({error})") from error
        if filled < len(memory):
            raise NoView("is cut short")
        if hashlib.sha256(memory).hexdigest() != self._digests[block]:
            raise NoView("does not match its checksum")

    def stream(self, blocks: Iterable[int]) -> Callable[[int], bytes]:
        """Return a function that reads so many bytes on through these blocks, fewer at their end."""
        rest, coming = bytearray(), iter(blocks)

        def read(size: int) -> bytes:
            while len(rest) < size and (block := next(coming, None)) is not None:
                rest.extend(self.read(block))
            data = bytes(rest[:size])
            del rest[:size]
            return data

        return read

    def _read_directory(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        if size < _END.size:
            raise NoView("is cut short")
        self._file.seek(size - _END.size)
        magic, length, digest = _END.unpack(self._file.read(_END.size))
        if magic != MAGIC or length > size - _END.size:
            raise NoView("is cut short or is not a view")
        self._file.seek(size - _END.size - length)
        directory = self._file.read(length)
        if hashlib.sha256(directory).digest() != digest:
            raise NoView("does not match its checksum")
        try:
            told = json.loads(directory)
            self.facts: dict[str, Any] = told["facts"]
            self._lengths = [int(length) for length, _ in told["blocks"]]
            self._digests = [str(digest) for _, digest in told["blocks"]]
        except _WRONG as error:
            raise NoView("is not a view") from error
        self._starts, start = [], 0
        for each in self._lengths:
            self._starts.append(start)
            start += each
        if start + length + _END.size != size:
            raise NoView("is cut short or is not a view")

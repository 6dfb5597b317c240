"""A process that forks writers, one after another, and tells how each ended: a start costs milliseconds.

It reads lines of JSON: first what to open and which fault to have, then operations one at a time, null to close. Every
line is answered by one. A writer that was killed answers with its end alone.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from typing import Any

import faults
import pictures
import sqlalchemy.dialects.sqlite  # noqa: F401 - before the fork, not after it
from deeds import current
from operations import OPERATIONS

from indexer.errors import FirstsightError
from indexer.gallery import Gallery


def answer(**told: Any) -> None:
    os.write(1, json.dumps({"fired": faults.fired(), **told}).encode() + b"\n")


def live(commands: Any, path: str, fault: list | None, *, create: bool = False) -> None:
    if fault:
        faults.arm(os.path.dirname(path) if create else path, faults.Fault(*fault))  # noqa: PTH120
    gallery = Gallery.create(path, dim=pictures.DIM, fingerprint="toy") if create else Gallery.open(path)
    answer(opened=os.getpid())
    while (order := json.loads(commands.readline())) is not None:
        name, arguments = order
        try:
            gallery = current(gallery)
            answer(done=_done(gallery, name, arguments))
        except FirstsightError as error:
            answer(refused=str(error))
    gallery.close()
    answer(closed=True)


def _done(gallery: Gallery, name: str, arguments: Any) -> Any:
    if name == "disarm":
        return faults.disarm()
    if name == "verify":
        return gallery.verify()
    OPERATIONS[name].act(gallery, arguments)
    return None


def main() -> None:
    commands = os.fdopen(0, "rb", buffering=0)  # nothing is read that is meant for the next process
    while line := commands.readline():
        child = os.fork()
        if child == 0:
            try:
                live(commands, **json.loads(line))
            except FirstsightError as error:  # while it was opened or closed
                answer(stopped=str(error))
            except BaseException:
                answer(broken=traceback.format_exc())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        while select.select([commands], [], [], 0)[0] and commands.read(4096):
            pass  # an order that it was killed before it had read
        answer(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(main())

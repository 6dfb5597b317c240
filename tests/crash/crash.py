"""Hurt writers at any instant, and see that nothing acknowledged is lost and nothing else is half there.

Each round starts a process that changes a gallery by chance (``operations.py``) and hurts it: SIGKILL at a random
moment; SIGKILL before, after or in the middle of its N-th system call that changes a file of the gallery; a disk that
is full or broken from the N-th call on, for a while or for good. Then the gallery is opened and compared with a
dictionary (``story.py``): what was acknowledged is there, what was not is there whole or gone whole, ``verify`` finds
nothing, queries answer what brute force does; the same through a reader that was open all the time.
A sweep does so at *every* call of one operation, and a third part does it to the making of a gallery.

    python tests/crash/crash.py [--rounds 300] [--seed 0]

Without a C compiler (or Linux) only random moments are left; the last line says so.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import faults
import pictures
from deeds import current
from faults import Fault
from operations import OPERATIONS, drawn
from story import Story, check_answers, on_disk

from indexer.errors import FirstsightError
from indexer.gallery import Gallery

PROJECT = Path(__file__).resolve().parents[2]
ROUNDS = 300
LIFE = 25  # rounds that one gallery lives
KILLS = ("kill before", "kill after", "kill halfway")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


class Writers:
    """The process that forks writers, and the one that lives."""

    def __init__(self, library: Path | None) -> None:
        self.faulty = library is not None
        command = [sys.executable, str(Path(__file__).with_name("writer.py"))]
        environment = {**faults.preloaded(library), "PYTHONPATH": str(PROJECT)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, path: Path, fault: Fault | None, **more: Any) -> dict[str, Any]:
        return self.ask({"path": str(path), "fault": fault, **more})

    def ask(self, order: Any, *, kill: tuple[int, float] | None = None) -> dict[str, Any]:
        """Send an order and return the answer; ``kill`` the process of that number some seconds later."""
        print(json.dumps(order), file=self._process.stdin, flush=True)
        if kill:
            time.sleep(kill[1])
            os.kill(kill[0], signal.SIGKILL)
        return self.heard()

    def heard(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        assert line, "the process that forks writers is gone"
        told = json.loads(line)
        assert "broken" not in told, told["broken"]
        assert "\n" not in told.get("refused", ""), told
        return told

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def writers() -> Iterator[tuple[Writers, Path]]:
    """A process that forks writers, with faults where they can be had; and a folder, in memory where there is one.

    A process that is killed leaves what it wrote, whether or not it reached a disk: a disk would only be slower.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="firstsight-crash-", dir=memory) as folder:
        made = Writers(faults.compiled(Path(folder)))
        try:
            yield made, Path(folder)
        finally:
            made.close()


# -- what is left ----------------------------------------------------------------------------------------------------


def settled(path: Path, before: Story, after: Story) -> Story:
    """Open what is left; it must be the one story or the other, sound, and answer so. Return which one it is."""
    with Gallery.open(path) as gallery:
        assert gallery.verify() == []
        story = which(path, before, after)
        check_answers(gallery, story)
        assert gallery.verify() == []
    return story


def which(path: Path, before: Story, after: Story) -> Story:
    found = on_disk(path)
    for story in (after, before):
        if found == story.written:
            return story
    raise AssertionError(f"neither before nor after: {found}, but {before.written} or {after.written}")


# -- rounds ----------------------------------------------------------------------------------------------------------


def drawn_fault(dice: Random) -> Fault:
    first = int(2 ** dice.uniform(0, 8))
    if dice.random() < 0.6:
        return Fault(dice.choice(KILLS), first)
    lasts = dice.choice((1, 3, 20, faults.FOR_EVER))
    return Fault("fail", first, first + lasts - 1, dice.choice(ERRORS), dice.random() < 0.3)


def hurt(hands: Writers, path: Path, story: Story, dice: Random) -> tuple[Story, str]:
    """One round: return the story as it went on, and what happened to the writer."""
    fault = drawn_fault(dice) if hands.faulty and dice.random() < 0.8 else None
    told = hands.start(path, fault)
    after = story
    if "opened" in told:
        writer = told["opened"]
        for _ in range(dice.randint(1, 8)):
            name, arguments = drawn(dice, story)
            before, after = story, OPERATIONS[name].tell(story, arguments)
            kill = (writer, dice.uniform(0, 0.03)) if fault is None and dice.random() < 0.3 else None
            told = hands.ask([name, arguments], kill=kill)
            story = after if "done" in told else which(path, before, after)
            if "refused" in told:
                assert told["fired"], f"{name} {arguments} was refused: {told['refused']}"
            if "ended" in told or kill:
                break
        else:
            told = hands.ask(None)
    while "ended" not in told:
        told = hands.heard()
    return settled(path, story, after), outcome(told, fault)


def outcome(told: dict[str, Any], fault: Fault | None) -> str:
    if told["ended"] == -signal.SIGKILL:
        return "killed at a moment" if fault is None else f"killed ({fault.kind[5:]} a call)"
    assert told["ended"] == 0, told
    return "unhurt" if fault is None or fault.kind != "fail" else f"failing ({errno.errorcode[fault.error]})"


def many(hands: Writers, scratch: Path, rounds: int, seed: int) -> Counter[str]:
    """Rounds in a row, a new gallery now and then; return how often what happened."""
    seen: Counter[str] = Counter()
    for life in range(0, rounds, LIFE):
        path, story = scratch / f"life {life}" / "birds.gallery", Story()
        Gallery.create(path, dim=pictures.DIM, fingerprint="toy").close()
        reader = Gallery.open(path)
        for number in range(life, min(life + LIFE, rounds)):
            dice = Random(f"{seed} {number}")
            try:
                story, what = hurt(hands, path, story, dice)
                reader = current(reader)
                check_answers(reader, story)
                assert reader.verify() == []
            except (AssertionError, FirstsightError) as error:
                kept = shutil.copytree(path.parent, tempfile.mkdtemp(prefix="crash-"), dirs_exist_ok=True)
                raise AssertionError(f"round {number} of seed {seed}, kept in {kept}: {error}") from error
            seen[what] += 1
        reader.close()
        shutil.rmtree(path.parent)
    return seen


# -- sweeps ----------------------------------------------------------------------------------------------------------


def sweep(hands: Writers, path: Path, before: Story, order: tuple[str, Any], fault: Fault, *, step: int = 1) -> int:
    """Hurt a writer of one operation at every call, or every ``step``-th; return the last, from opening to closing."""
    saved = shutil.copytree(path, path.with_name("saved"), dirs_exist_ok=True)
    after = OPERATIONS[order[0]].tell(before, order[1])
    for first in itertools.count(1, step):
        shutil.rmtree(path)
        shutil.copytree(saved, path)
        told = whole_life(hands, path, fault._replace(first=first, last=first + fault.last - fault.first), order)
        done = any("done" in one for one in told)
        try:
            settled(path, after if done else before, after)
        except (AssertionError, FirstsightError) as error:
            raise AssertionError(f"{order}, {fault.kind} call {first}: {error}; the writer said {told}") from error
        if told[-1]["ended"] == 0 and not told[-2]["fired"]:
            assert done, told
            return first - step
    raise AssertionError("unreachable")


def whole_life(hands: Writers, path: Path, fault: Fault | None, order: Any, **more: Any) -> list[dict[str, Any]]:
    """Let a writer open, do one operation and close, or die; return all it said."""
    told, orders = [hands.start(path, fault, **more)], iter((order, None))
    while "ended" not in told[-1]:
        waiting = told[-1].keys() & {"opened", "done", "refused"}
        told.append(hands.ask(next(orders)) if waiting else hands.heard())
    return told


def sweep_making(hands: Writers, folder: Path, kind: str) -> int:
    """Kill the making of a gallery at every call: there is a gallery, empty and sound, or none, and one can be made."""
    for first in itertools.count(1):
        path = folder / str(first) / "birds.gallery"
        path.parent.mkdir(parents=True)
        told = whole_life(hands, path, Fault(kind, first, first, errno.ENOSPC), ("save", {}), create=True)
        if not path.exists():
            Gallery.create(path, dim=pictures.DIM, fingerprint="toy").close()
        settled(path, Story(), Story())
        if told[-1]["ended"] == 0 and not told[-2]["fired"]:
            return first - 1
    raise AssertionError("unreachable")


def begun(path: Path, dice: Random) -> Story:
    """Make a gallery with something in it, its views on disk."""
    story = Story()
    with Gallery.create(path, dim=pictures.DIM, fingerprint="toy") as gallery:
        for name in ("index", "learn", "learn", "rename", "forget"):
            _, arguments = drawn(dice, story, (name,))
            OPERATIONS[name].act(gallery, arguments)
            story = OPERATIONS[name].tell(story, arguments)
    return story


def everything(hands: Writers, scratch: Path, seed: int) -> Iterator[str]:
    """Sweep every operation with every kind of fault; yield what was done."""
    for kind in (*KILLS, "fail"):
        for reads in (False, True) if kind == "fail" else (False,):
            for name in OPERATIONS:
                path, dice = scratch / f"{kind} {name} {reads}" / "birds.gallery", Random(f"{seed} {name}")
                story = begun(path, dice)
                calls = sweep(hands, path, story, drawn(dice, story, (name,)), Fault(kind, 1, 1, errno.EIO, reads))
                yield f"{name}: {kind} each of {calls} {'reading' if reads else 'writing'} calls"
                shutil.rmtree(path.parent)
        yield f"making a gallery: {kind} each of {sweep_making(hands, scratch / f'making, {kind}', kind)} calls"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    with writers() as (hands, folder):
        for what, times in many(hands, folder, chosen.rounds, chosen.seed).most_common():
            print(f"{times:>6} rounds: {what}", flush=True)
        if hands.faulty:
            for line in everything(hands, folder, chosen.seed):
                print(line, flush=True)
        print("sound after all of it" + ("" if hands.faulty else "; no compiler here, so no faults at system calls"))


if __name__ == "__main__":
    main()

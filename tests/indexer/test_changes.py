from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.changes import File, compare
from indexer.gallery import Reference

ROOT = "/photos"


def references(*rows, root=ROOT):
    """References from "path hash" lines; the first folder of the path is the class."""
    return [
        Reference(number, path.split("/")[0], hash, root, path)
        for number, (path, hash) in enumerate((row.split() for row in rows), start=1)
    ]


def files(*rows):
    return [File(path, path.split("/")[0], hash) for path, hash in (row.split() for row in rows)]


def outcome(known, now, failed=(), **how):
    known = references(*known) if isinstance(known, tuple) else known
    changes = compare(files(*now), set(failed), known, ROOT, **how)
    assert sorted(changes.come) == sorted(changes.added + changes.changed + changes.moved + changes.carried)
    return {
        "added": [file.path for file in changes.added],
        "changed": [file.path for file in changes.changed],
        "moved": [file.path for file in changes.moved],
        "renamed": [(one.old, one.new, one.images) for one in changes.renamed],
        "removed": changes.removed,
        "unchanged": changes.unchanged,
        "leave": changes.leave,
    }


NOTHING = {"added": [], "changed": [], "moved": [], "renamed": [], "removed": 0, "unchanged": 0, "leave": []}
DISPLACED = {"unchanged": 1, "changed": ["a/1"], "removed": 1, "leave": [1, 3]}
BEFORE = ("a/1 one", "a/2 two", "b/3 three")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (("a/1 one", "a/2 two", "b/3 three"), {"unchanged": 3}),
        (("a/1 one", "a/2 two", "b/3 three", "c/4 four"), {"unchanged": 3, "added": ["c/4"]}),
        (("a/1 ONE", "a/2 two", "b/3 three"), {"unchanged": 2, "changed": ["a/1"], "leave": [1]}),
        (("a/1 one", "b/3 three"), {"unchanged": 2, "removed": 1, "leave": [2]}),
        (("a/1 one", "a/9 two", "b/3 three"), {"unchanged": 2, "moved": ["a/9"], "leave": [2]}),
        (("a/1 one", "b/2 two", "b/3 three"), {"unchanged": 2, "moved": ["b/2"], "leave": [2]}),
        (("c/1 one", "c/2 two", "b/3 three"), {"unchanged": 1, "renamed": [("a", "c", 2)], "leave": [1, 2]}),
        (("a/1 one", "a/2 two", "a/copy two", "b/3 three"), {"unchanged": 4}),
        (("a/1 one", "a/2 two", "b/2 two", "b/3 three"), {"unchanged": 3, "added": ["b/2"]}),
        (("a/1 two", "a/2 one", "b/3 three"), {"unchanged": 1, "moved": ["a/1", "a/2"], "leave": [1, 2]}),
        (("a/1 two", "a/2 two", "b/3 three"), {"unchanged": 3, "removed": 1, "leave": [1]}),
        (("a/1 new", "a/2 two", "b/1 one"), DISPLACED | {"moved": ["b/1"]}),
        (("a/1 new", "a/9 one", "a/2 two"), DISPLACED | {"moved": ["a/9"]}),
        (("a/1 new", "a/copy new", "a/2 two", "b/3 three"), {"unchanged": 3, "changed": ["a/1"], "leave": [1]}),
        (("c/4 four", "c/5 four"), {"added": ["c/4"], "unchanged": 1, "removed": 3, "leave": [1, 2, 3]}),
    ],
)  # fmt: skip
def test_every_file_counts_once_as_what_happened_to_it(now, expected):
    assert outcome(BEFORE, now) == NOTHING | expected


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        # Another name with all that was there, and more: renamed, and the rest is new.
        (("a/1 one",), ("c/1 one", "c/2 two"), {"renamed": [("a", "c", 1)], "added": ["c/2"]}),
        # One content is missing, in the old class, at an old one or at two new ones: only files have moved.
        (("a/1 one", "a/2 two"), ("c/1 one",), {"moved": ["c/1"], "removed": 1}),
        (("a/1 one", "a/2 two"), ("c/1 one", "a/2 two"), {"moved": ["c/1"], "unchanged": 1, "leave": [1]}),
        (("a/1 one", "a/2 two"), ("c/1 one", "a/3 new"), {"moved": ["c/1"], "added": ["a/3"], "removed": 1}),
        (("a/1 one",), ("c/1 one", "a/2 new"), {"moved": ["c/1"], "added": ["a/2"]}),
        (("a/1 one", "b/1 two"), ("b/1 two", "b/2 one"), {"moved": ["b/2"], "unchanged": 1, "leave": [1]}),
        (("a/1 one", "a/2 two"), ("c/1 one", "d/2 two"), {"moved": ["c/1", "d/2"]}),
        # Two classes become one: neither is renamed.
        (("a/1 one", "b/1 two"), ("c/1 one", "c/2 two"), {"moved": ["c/1", "c/2"]}),
        # What two classes have in common goes with each of them.
        (
            ("a/1 one", "a/2 two", "b/1 one", "b/2 three"),
            ("x/1 one", "x/2 three", "y/1 one", "y/2 two"),
            {"renamed": [("a", "y", 2), ("b", "x", 2)]},
        ),
        # One of two equal copies is the class under its new name, the other is new.
        (("a/1 one",), ("c/1 one", "d/1 one"), {"renamed": [("a", "c", 1)], "added": ["d/1"]}),
        (("a/1 one", "b/1 one"), ("c/1 one", "d/1 one"), {"renamed": [("a", "c", 1), ("b", "d", 1)]}),
    ],
)
def test_a_class_is_renamed_if_all_of_it_and_of_no_other_came_to_one_new_name(before, now, expected):
    leave = {"leave": list(range(1, len(before) + 1))}

    assert outcome(before, now) == NOTHING | leave | expected


def test_a_class_with_a_learnt_reference_stays_and_is_not_renamed():
    known = [*references("a/1 one"), Reference(2, "a", "two", None, None)]

    assert outcome(known, ("c/1 one",)) == NOTHING | {"moved": ["c/1"], "leave": [1]}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (("a/1 one",), {"unchanged": 1}),
        (("a/1 new",), {"changed": ["a/1"], "leave": [1]}),
        (("a/9 one", "b/2 two"), {"moved": ["a/9", "b/2"], "leave": [1, 2]}),
        (("c/1 one", "c/2 two"), {"renamed": [("a", "c", 2)], "leave": [1, 2]}),
        (("a/1 two", "a/2 two"), {"unchanged": 2, "removed": 1, "leave": [1]}),
    ],
)
def test_what_is_gone_may_stay_but_not_what_shows_something_else(now, expected):
    assert outcome(BEFORE, now, keep_removed=True) == NOTHING | expected


def test_a_file_that_could_not_be_read_keeps_its_reference():
    assert outcome(BEFORE, ("a/2 two",), ["a/1", "b/3"]) == NOTHING | {"unchanged": 1}


def test_a_folder_that_could_not_be_read_keeps_all_of_its_references():
    assert outcome(BEFORE, ("b/3 three",), ["a"]) == NOTHING | {"unchanged": 1}
    assert outcome(("ab/1 one", "a/1 two"), ("a/1 two",), ["a"])["removed"] == 1


def test_the_original_of_a_copy_may_be_unreadable():
    assert outcome(BEFORE, ("a/2 two", "a/copy one", "b/3 three"), ["a/1"]) == NOTHING | {"unchanged": 3}


def test_learnt_references_are_never_touched():
    learnt = [Reference(1, "a", "one", None, "/gone/1.jpg"), Reference(2, "z", "two", None, None)]

    assert outcome(learnt, ("a/1 one", "b/2 two")) == NOTHING | {"unchanged": 1, "added": ["b/2"]}


def test_references_of_another_root_stay(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").touch()
    known = references("a/1 one", "b/2 two", root=str(tmp_path))

    assert outcome(known, ("a/1 one", "c/3 three")) == NOTHING | {"unchanged": 1, "added": ["c/3"]}


def test_a_whole_folder_may_move(tmp_path):
    known = references("a/1 one", "b/2 two", root=str(tmp_path / "before"))

    assert outcome(known, ("a/1 one", "b/2 two")) == NOTHING | {"moved": ["a/1", "b/2"], "leave": [1, 2]}


def test_another_depth_of_classes_moves_files_in_place():
    deeper = [File("a/x/1", "a/x", "one"), File("a/y/2", "a/y", "two")]

    changes = compare(deeper, set(), references("a/x/1 one", "a/y/2 two"), ROOT)

    assert [file.path for file in changes.moved] == ["a/x/1", "a/y/2"]
    assert (changes.leave, changes.removed) == ([1, 2], 0)


places = st.dictionaries(
    st.sampled_from([f"{name}/{number}" for name in "abc" for number in range(4)]),
    st.sampled_from("uvwxyz"),
    max_size=9,
)


@given(places, places, st.sets(st.sampled_from([f"a/{number}" for number in range(4)])))
def test_what_is_left_and_what_comes_are_the_contents_of_the_folder(before, now, failed):
    now = {path: hash for path, hash in now.items() if path not in failed}
    first = compare(files(*(f"{path} {hash}" for path, hash in before.items())), set(), [], ROOT)
    known = [Reference(number, file.name, file.hash, ROOT, file.path) for number, file in enumerate(first.come)]

    changes = compare(files(*(f"{path} {hash}" for path, hash in now.items())), failed, known, ROOT)

    stays = [one for one in known if one.id not in changes.leave]
    after = sorted([(one.name, one.hash) for one in stays] + [(file.name, file.hash) for file in changes.come])
    expected = {(path.split("/")[0], hash) for path, hash in now.items()}
    expected |= {(one.name, one.hash) for one in known if one.path in failed}
    assert after == sorted(expected)
    assert len(changes.come) + changes.unchanged == len(now)
    assert len(stays) + len(changes.leave) == len(known)
    assert all(now.get(one.path) == one.hash or one.path in failed for one in stays)
    assert all(now[file.path] == file.hash for file in changes.come)
    assert changes.removed <= len(changes.leave)

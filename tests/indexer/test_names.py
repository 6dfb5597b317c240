from __future__ import annotations

import pytest

from indexer.errors import ArgumentError, ClassExists
from indexer.names import check_name, fold, refuse_twins, suggestion


@pytest.mark.parametrize(
    "name", ["heron", "Grey heron", "Greek/character01", "鷺", "🦩", "o'Neil; DROP TABLE", "a\u00a0b"]
)
def test_a_sensible_name_stays_as_it_is(name):
    assert check_name(name) == name


def test_a_name_is_composed():
    assert check_name("e\u0301gret") == "\u00e9gret"


@pytest.mark.parametrize(
    "bad", ["", " heron", "heron ", "/heron", "heron/", "he\nron", "a\x00b", "\udcff", "\t", None, 3]
)
def test_a_name_that_would_cause_trouble_is_refused_in_one_line(bad):
    with pytest.raises(ArgumentError) as caught:
        check_name(bad)

    assert len(str(caught.value).splitlines()) == 1


def test_names_that_differ_only_by_case_fold_to_one():
    assert fold("HERON") == fold("heron")
    assert fold("STRASSE") == fold("straße")
    assert fold("E\u0301GRET") == fold("\u00e9gret")
    assert fold("heron") != fold("herons")


def test_twins_are_refused_by_their_names():
    with pytest.raises(ClassExists, match=r"'Heron' and 'heron' differ only by case"):
        refuse_twins(["heron", "egret", "Heron"])
    assert refuse_twins(["heron", "egret"]) == {"heron": "heron", "egret": "egret"}


def test_a_near_miss_is_suggested():
    assert suggestion("Hernon", ["egret", "heron"]) == "; did you mean 'heron'?"
    assert suggestion("xyz", ["egret", "heron"]) == ""

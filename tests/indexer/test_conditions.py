"""The oracle writes each comparison out, by the words of the documentation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.conditions import Conditions, typed
from indexer.errors import ArgumentError

BIRD = {"site": "paris", "price": 3, "wild": True, "tags": ["a", 2], "none": []}


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({}, True),
        ({"site": "paris"}, True),
        ({"site": "rome"}, False),
        ({"site": ["rome", "paris"]}, True),
        ({"site": []}, False),
        ({"site": "paris", "price": 3}, True),
        ({"site": "paris", "price": 4}, False),
        ({"site": None}, False),
        ({"other": None}, True),
        ({"other": ["x", None]}, True),
        ({"other": "x"}, False),
        ({"other": {"!=": "x"}}, True),  # what is not there is not x
        ({"site": {"!=": None}}, True),
        ({"other": {"!=": None}}, False),
        ({"site": {"!=": "paris"}}, False),
        ({"site": {"!=": ["rome", "oslo"]}}, True),
        ({"site": {"!=": ["rome", "paris"]}}, False),
        ({"price": {"<": 3}}, False),
        ({"price": {"<=": 3}}, True),
        ({"price": {">": 2.5, "<": 3.5}}, True),
        ({"price": {">": 2.5, "<": 3}}, False),
        ({"price": {"==": 3.0}}, True),
        ({"price": {"=": "3"}}, False),
        ({"site": {">=": "p", "<": "q"}}, True),
        ({"site": {"<": 5}}, False),  # a text is neither less nor more than a number
        ({"price": {">": ""}}, False),
        ({"other": {"<": 5}}, False),
        ({"wild": True}, True),
        ({"wild": 1}, False),  # true is not 1
        ({"wild": {">": 0}}, False),
        ({"tags": "a"}, True),
        ({"tags": 2}, True),
        ({"tags": "b"}, False),
        ({"tags": {"!=": "a"}}, False),
        ({"tags": {">": 1}}, True),
        ({"none": {"!=": "a"}}, True),
        ({"cafe\u0301": None}, True),
    ],
)
def test_a_condition_means_what_the_documentation_says(where, holds):
    assert Conditions(where)(BIRD) is holds


def test_text_is_the_same_however_it_was_composed():
    assert Conditions({"cafe\u0301": "Orle\u0301ans"})({"café": "Orléans"})


bounds = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.0, 2.0, "", "a", "b"]))
scalars = st.one_of(bounds, st.booleans())
ORDERS = {"<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}


def alike(value, other):
    return (
        type(value) is type(other) and value == other
        if isinstance(value, bool)
        else (not isinstance(other, bool) and value == other)
    )


@given(st.one_of(st.none(), scalars), st.sampled_from(["=", "!=", *ORDERS]), bounds)
def test_every_operator_compares_as_python_does_within_one_kind(value, operator, bound):
    present = {} if value is None else {"key": value}

    if operator in ORDERS:
        same = value is not None and not isinstance(value, bool) and isinstance(value, str) == isinstance(bound, str)
        expected = same and getattr(type(value), ORDERS[operator])(value, bound)
        if expected is NotImplemented:  # an int beside a float
            expected = getattr(float(value), ORDERS[operator])(float(bound))
    else:
        expected = (value is not None and alike(value, bound)) == (operator == "=")

    assert Conditions({"key": {operator: bound}})(present) is bool(expected)


def test_equal_conditions_have_equal_keys_and_others_have_others():
    same = [{"a": 1, "b": ["x", "y"]}, {"b": ["y", "x", "x"], "a": {"=": 1}}, {"b": {"==": ("x", "y")}, "a": [1]}]
    others = [{}, {"a": 1}, {"a": True}, {"a": "1"}, {"a": None}, {"a": {"!=": 1}}, {"a": {"<": 1}}, {"b": 1}]

    assert len({Conditions(where).key for where in same}) == 1
    assert len({Conditions(where).key for where in others}) == len(others)


@pytest.mark.parametrize(
    "wrong",
    [
        "site=paris",
        ["site"],
        {"": 1},
        {"a<b": 1},
        {3: 1},
        {"price": {}},
        {"price": {"~": 1}},
        {"price": {3: 1}},
        {"price": {"<": None}},
        {"price": {"<": True}},
        {"price": {"<": [1]}},
        {"price": {"<": float("nan")}},
        {"price": {"=": {"a": 1}}},
        {"price": float("inf")},
        {"price": [[1]]},
        {"price": b"3"},
        {"price": "\ud800"},
        {"price'; DROP TABLE names; --": object()},
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(wrong):
    with pytest.raises(ArgumentError) as refused:
        Conditions(wrong)

    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 250
    message.encode()


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        ([], {}),
        (["site=paris"], {"site": {"=": "paris"}}),
        ([" site = new york "], {"site": {"=": "new york"}}),
        (["price<5", "price>=1"], {"price": {"<": 5, ">=": 1}}),
        (["price<=5"], {"price": {"<=": 5}}),
        (["price==5"], {"price": {"=": 5}}),
        (['site=["paris", "rome"]'], {"site": {"=": ["paris", "rome"]}}),
        (["site!=paris"], {"site": {"!=": "paris"}}),
        (["site=null"], {"site": {"=": None}}),
        (['code="5"'], {"code": {"=": "5"}}),
        (["note=a=b"], {"note": {"=": "a=b"}}),
    ],
)
def test_conditions_are_typed_as_they_are_thought(texts, where):
    assert typed(texts) == where
    Conditions(typed(texts))


@pytest.mark.parametrize("texts", [["site"], [""], ["a=1", "a=2"], ["a=1", "a==2"], ["price!5"]])
def test_what_is_no_condition_is_refused(texts):
    with pytest.raises(ArgumentError):
        typed(texts)

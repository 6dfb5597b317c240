"""What attributes must be like: conditions by key, checked once and then asked of any attributes.

A reference has the attributes of its class, and over them its own. ``None`` stands for an attribute that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from indexer.attributes import check_key, check_scalar, parsed
from indexer.errors import ArgumentError

Where = Mapping[str, Any]
"""By key: a value, a list of which one will do, None for no such attribute, or bounds as in ``{"<": 5, ">=": 1}``."""

Test = Callable[[Any], bool]

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}
_SHOWN: Final = "= != < <= > >="
_TYPED: Final = re.compile(r"([^<>=!]*)(<=|>=|!=|==|=|<|>)(.*)", re.DOTALL)


class Conditions:
    """All must hold.

    Attributes:
        key: the same text for the same conditions, however they were written.

    Raises:
        ArgumentError: for conditions that cannot be asked; the message says which.
    """

    def __init__(self, where: Where) -> None:
        if not isinstance(where, Mapping):
            raise ArgumentError(f"where is given by key, as in {{'site': 'paris'}}, not as {where!a:.80}")
        found = sorted((check_key(key), *one) for key, value in where.items() for one in _simple(key, value))
        self._tests = [(key, _test(operator, json.loads(bound))) for key, operator, bound in found]
        self.key = json.dumps(found)

    def __call__(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether these attributes are like that. One that is a list is if any of its values is."""
        return all(test(attributes.get(key)) for key, test in self._tests)


def typed(texts: Iterable[str]) -> dict[str, Any]:
    """Return conditions that were typed: ``site=paris``, ``price<5``, ``site=["paris", "rome"]``, ``site!=null``.

    Raises:
        ArgumentError: a text is no condition, or says of a key what another one says too.
    """
    where: dict[str, dict[str, Any]] = {}
    for text in texts:
        match = _TYPED.fullmatch(text)
        if match is None:
            raise ArgumentError(f"{text!a} is no condition: write KEY=VALUE, or one of {_SHOWN}, as in 'price<5'")
        key, operator, bound = match[1].strip(), match[2].replace("==", "="), parsed(match[3].strip())
        if operator in where.setdefault(key, {}):
            raise ArgumentError(f"{key}: has two conditions with {operator}; one of several values is a list")
        where[key][operator] = bound
    return where


def _simple(key: object, value: object) -> list[tuple[str, str]]:
    """Return the conditions on one attribute as (operator, bound in JSON)."""
    if not isinstance(value, Mapping):
        return [("=", _bound(key, "=", value))]
    if not value:
        raise ArgumentError(f"{key}: no condition; give one of {_SHOWN}, as in {{'<': 5}}")
    return [(_operator(key, operator), _bound(key, operator, bound)) for operator, bound in value.items()]


def _operator(key: object, operator: object) -> str:
    if operator not in ("=", "==", "!=", *_ORDERS):
        raise ArgumentError(f"{key}: {operator!a:.80} compares nothing; choose one of {_SHOWN}")
    return "=" if operator == "==" else str(operator)


def _bound(key: object, operator: object, bound: object) -> str:
    if operator in _ORDERS:
        scalar = check_scalar(key, bound)
        if isinstance(scalar, bool):
            raise ArgumentError(f"{key}: {operator} compares with a number or a text, not with {scalar}")
        return json.dumps(scalar)
    options = list(bound) if isinstance(bound, list | tuple | set | frozenset) else [bound]
    return json.dumps(sorted({json.dumps(None if one is None else check_scalar(key, one)) for one in options}))


def _test(operator: str, bound: Any) -> Test:
    if operator in _ORDERS:
        return _ordered(_ORDERS[operator], bound)
    options = frozenset(_exact(json.loads(one)) for one in bound)
    if operator == "=":
        return lambda value: any(_exact(one) in options for one in _values(value))
    return lambda value: not any(_exact(one) in options for one in _values(value))


def _ordered(holds: Callable[[Any, Any], bool], bound: Any) -> Test:
    kind = str if isinstance(bound, str) else (int, float)

    def test(value: Any) -> bool:
        return any(isinstance(one, kind) and not isinstance(one, bool) and holds(one, bound) for one in _values(value))

    return test


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _exact(value: Any) -> tuple[bool, Any]:
    """True is not 1, though Python takes them for equal; 1 is 1.0."""
    return isinstance(value, bool), value

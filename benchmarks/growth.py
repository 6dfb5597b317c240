"""What a billion vectors would need: a line through what search takes at each size, drawn on.

Reads what ``benchmarks/search.py`` has kept, of at least three sizes. Time is taken to grow as a power of the number of
vectors, memory as a fixed part and a part a vector; a line drawn on from a million to a billion is a guess, and is
called one.

    python benchmarks/growth.py

Expected: see benchmarks/results/growth.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from rows import RESULTS, report, row

FAR = 1e9
FEWEST = 3  # sizes that make a line
SPEED = re.compile(r"([\d,]+) x (\d+), (.+ at [\d.]+), 1 thread, one by one")
LISTS = re.compile(r"IVF\d+(_HNSW\d+)?")  # how many there are goes with the size; it is one kind all the same
MEMORY = re.compile(r"([\d,]+) x (\d+), (.+): bytes a vector")


def power(points: dict[int, float]) -> tuple[float, float]:
    """Return exponent and value at a billion of the power of the size that fits the points best."""
    sizes, values = np.log(list(points)), np.log(list(points.values()))
    slope, start = np.polyfit(sizes, values, 1)
    return float(slope), float(np.exp(start + slope * np.log(FAR)))


def each_of_many(points: dict[int, float]) -> float:
    """Return what a vector takes where so many share the fixed part that it no longer counts."""
    sizes, values = np.array(list(points), float), np.array(list(points.values()))
    # What a vector takes is b + a / size. Divided by what was measured, each size's error counts alike.
    terms = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1) / values[:, np.newaxis]
    return float(np.linalg.lstsq(terms, np.ones(len(sizes)), rcond=None)[0][0])


def series(rows: Iterable[dict[str, Any]], pattern: re.Pattern[str]) -> dict[str, dict[int, float]]:
    """Return the values of each method by size, of those measured at enough sizes."""
    found: dict[str, dict[int, float]] = {}
    for one in rows:
        if match := pattern.fullmatch(one["measure"]):
            name = LISTS.sub("IVF", match[3])
            found.setdefault(f"{name}, {match[2]} floats", {})[int(match[1].replace(",", ""))] = one["value"]
    return {name: points for name, points in found.items() if len(points) >= FEWEST}


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each method by which power of the size its time and memory grow, and what a billion would take."""
    fitted = []
    for name, points in series(rows, SPEED).items():
        slope, far = power({size: 1e3 / rate for size, rate in points.items()})
        fitted.append(row(f"{name}: time of a query grows as size to the power of", slope, ""))
        fitted.append(row(f"{name}: a query among a billion, a guess", far, "ms"))
    rough = series((one for one in rows if one.get("exact_vectors_beside")), MEMORY)
    for name, points in series(rows, MEMORY).items():
        more = {"exact_vectors_beside": True} if name in rough else {}
        fitted.append(row(f"{name}: a billion vectors, a guess", each_of_many(points), "GB", **more))
    return fitted


def main() -> None:
    path = RESULTS / "search.json"
    if not path.is_file():
        raise SystemExit(f"{path} is not here: run benchmarks/search.py first")
    fitted = growth(json.loads(path.read_text(encoding="utf-8")))
    if not fitted:
        raise SystemExit(f"a third size is not here: {path} holds fewer; run benchmarks/search.py with more")
    report("growth", fitted)


if __name__ == "__main__":
    main()

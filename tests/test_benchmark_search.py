"""The benchmark of search measures what it says, and runs."""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
import xml.etree.ElementTree as ET
from itertools import product
from pathlib import Path

import faiss
import numpy as np
import pytest

from indexer.gallery import Gallery
from indexer.history import Coming

ROOT = Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("charts", "databases", "growth", "made", "methods", "peers", "recalls", "report", "rows", "search")


@pytest.fixture
def program(monkeypatch):
    """Import a benchmark; FAISS has as many threads afterwards as before."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    threads = faiss.omp_get_max_threads()
    yield importlib.import_module
    faiss.omp_set_num_threads(threads)
    for name in NAMES:
        sys.modules.pop(name, None)


def test_made_embeddings_are_nearest_to_their_own_class_and_strangers_to_none(program):
    data = program("made").made_set(3000, 32, 300, seed=0)

    np.testing.assert_allclose(np.linalg.norm(np.concatenate([data.vectors, data.queries]), axis=1), 1, atol=1e-5)
    classes, counts = np.unique(data.labels, return_counts=True)
    assert counts[classes >= 0].tolist() == [10] * 240
    assert counts[classes < 0].tolist() == [600]
    best = (data.queries @ data.vectors.T).argmax(axis=1)
    known = data.asked >= 0
    assert (data.labels[best] == data.asked)[known].mean() > 0.9
    nearest = (data.queries @ data.vectors.T).max(axis=1)
    assert nearest[known].mean() > nearest[~known].mean() + 0.03


def test_made_embeddings_have_few_dimensions_whatever_their_number(program):
    values = np.linalg.svd(program("made").made_set(2000, 128, 1, seed=0).vectors, compute_uv=False) ** 2

    assert values[:32].sum() / values.sum() > 0.9


def test_made_embeddings_depend_on_the_seed_alone(program):
    one, same, other = (program("made").made_set(500, 8, 9, seed=seed) for seed in (1, 1, 2))

    assert np.array_equal(one.vectors, same.vectors)
    assert np.array_equal(one.queries, same.queries)
    assert not np.array_equal(one.vectors, other.vectors)


def test_both_recalls_are_what_counting_gives(program):
    recalls, made = program("recalls"), program("made")
    exact = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    found = np.array([[0, 1, 9], [5, 3, -1], [9, 9, 6]])
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, 4])
    data = made.Set(np.empty((10, 1), np.float32), labels, np.empty((3, 1), np.float32), np.array([4, 2, -1]))

    assert recalls.ann_recall(found, exact, 3) == pytest.approx((2 + 2 + 1) / 9)
    assert recalls.ann_recall(found, exact, 1) == pytest.approx(1 / 3)
    assert recalls.class_recall(found, data, 1) == 1 / 2
    assert recalls.class_recall(found, data, 3) == 1
    assert recalls.class_recall(np.full((3, 3), -1), data, 3) == 0


def test_every_kind_is_measured_at_every_target_it_meets(program, monkeypatch):
    search = program("search")
    monkeypatch.setattr(search, "SINGLE", 10)
    data = program("made").made_set(1500, 16, 100, seed=0)

    rows, entries = search.measure(data, "1,500 x 16", only=["HNSW16", "IVF128,SQ8"], rounds=1)

    value = {row["measure"]: row["value"] for row in rows}
    assert [entry.method.name for entry in entries] == ["exact", "HNSW16,SQfp16", "IVF128,SQ8"]
    for name, target in product(("exact", "HNSW16,SQfp16", "IVF128,SQ8"), (0.9, 0.95, 0.99)):
        assert value[f"1,500 x 16, {name} at {target:g}: ann_recall@10"] >= target
        assert value[f"1,500 x 16, {name} at {target:g}, 1 thread, one by one"] > 0
        assert value[f"1,500 x 16, {name} at {target:g}, 1 thread, batches of 1,000"] > 0
    assert value["1,500 x 16, exact: bytes a vector"] == 64


def test_a_library_that_is_not_installed_is_left_out_with_a_line(program, monkeypatch):
    peers, said = program("peers"), []
    for name in ("hnswlib", "usearch.index", "scann", "svs", "lancedb", "milvus_lite"):
        monkeypatch.setitem(sys.modules, name, None)

    assert peers.peers(1000, said.append) == []
    assert [line.split("[")[-1] for line in said] == [f"{peer.extra}]')" for peer in peers.PEERS]
    assert all("not installed" in line for line in said)


def test_a_library_that_would_take_hours_is_left_out_with_a_line(program):
    peers, said = program("peers"), []

    found = peers.peers(10**8, said.append)

    assert found == []
    assert all("at most" in line for line in said)


def test_every_library_has_an_extra_of_its_own(program):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    for peer in program("peers").PEERS:
        assert len(extras[peer.extra]) >= 1


@pytest.mark.parametrize("name", ["Hnswlib", "Usearch", "Scann", "Svs", "Lancedb", "MilvusLite"])
def test_a_library_that_is_installed_finds_nearly_all_also_after_it_was_kept(program, name, tmp_path):
    peers, recalls, search = program("peers"), program("recalls"), program("search")
    try:
        peer, again = getattr(peers, name)(), getattr(peers, name)()
    except ImportError:
        pytest.skip("it is not installed")
    data = program("made").made_set(1000, 16, 50, seed=0)
    exact = recalls.exact_neighbours(data)
    search.built(peer, data, tmp_path)
    search.built(again, data, tmp_path)

    for one in (peer, again):
        found = one.search(data.queries, 10, one.settings()[-1], 1)
        assert recalls.ann_recall(found, exact, 10) > 0.98
        assert one.bytes() > 1000 * 16


def test_what_is_measured_anew_replaces_its_size_and_nothing_else(program, tmp_path):
    kept = [{"measure": f"{size}, IVF128: bytes a vector"} for size in ("1,000 x 8", "11,000 x 8", "1,000 x 81")]
    kept.append({"measure": "1,000 x 8 at 0.9, 1 thread, one by one: ours to the best peer"})
    (tmp_path / "search.json").write_text(json.dumps(kept))

    assert program("search").others(tmp_path / "search.json", ["1,000 x 8"]) == kept[1:3]
    assert program("search").others(tmp_path / "none.json", ["1,000 x 8"]) == []


def test_the_report_shows_each_goal_the_missed_ones_first_and_draws_what_was_found(program):
    report, facts = program("report"), {"unit": "queries/s", "command": "c", "commit": "d", "machine": "m"}

    def searched(size, target, value):
        measure = f"{size} x 8, IVF128,<SQ8> at {target}, 1 thread, one by one"
        return {"measure": measure, "value": value, "goal": "", "holds": None, "ann_recall": target, **facts}

    judged = [
        {"measure": name, "value": 1, "goal": ">= 2", "holds": holds, **facts}
        for name, holds in (("this one holds", True), ("that one does not", False))
    ]
    rows = [searched("1,000", 0.9, 500.0), searched("1,000", 0.99, 100.0), searched("10,000", 0.99, 50.0)]

    elsewhere = [one | {"machine": "another"} for one in rows]
    made = report.made({"search": [*judged, *rows], "search_there": elsewhere, "sync": judged})

    assert made.index("that one does not") < made.index("this one holds")
    assert "<b>2</b>goals hold" in made
    assert re.findall("<h2>Search: (.+?)</h2>", made) == ["m", "another"]
    assert made.count("<svg") == 2 * 3
    assert "<SQ8>" not in made
    drawn = [ET.fromstring(one) for one in [*report.growth(rows), *report.searches(rows)]]
    points = [[line.get("points").count(",") for line in one.iter(f"{SVG}polyline")] for one in drawn]
    assert points == [[2], [2], [1]]


def test_a_chart_of_intervals_is_a_drawing_with_a_mark_for_each(program, tmp_path):
    panels = {"5-way": {"one & two": (90.0, 89.0, 91.0), "three": (80.0, 79.0, 82.0)}}

    program("charts").dot_chart(tmp_path / "drawn.svg", "accuracy", panels)

    root = ET.parse(tmp_path / "drawn.svg").getroot()
    first, second = [float(mark.get("cx")) for mark in root.iter(f"{SVG}circle")]
    assert first > second
    assert "one & two" in [text.text for text in root.iter(f"{SVG}text")]


def test_embeddings_too_many_for_memory_are_made_in_a_file_and_are_the_same(program, monkeypatch):
    made = program("made")
    kept = made.made_set(700, 8, 9, seed=3)
    monkeypatch.setattr(made, "IN_MEMORY", 1)

    mapped = made.made_set(700, 8, 9, seed=3)

    assert isinstance(mapped.vectors, np.memmap)
    np.testing.assert_array_equal(mapped.vectors, kept.vectors)
    np.testing.assert_array_equal(mapped.queries, kept.queries)


def test_growth_finds_the_power_by_which_the_rows_grow(program):
    sizes = (10_000, 100_000, 1_000_000)
    rows = [
        {"measure": f"{size:,} x 64, HNSW32 at 0.99, 1 thread, one by one", "value": 1e6 / size**0.5} for size in sizes
    ] + [{"measure": f"{size:,} x 64, HNSW32: bytes a vector", "value": 300} for size in sizes]
    rows.append({"measure": "10,000 x 64, IVF512,Flat: bytes a vector", "value": 300})
    rows += [
        {
            "measure": f"{size:,} x 64, {name},SQ8: bytes a vector",
            "value": 70 + 2e6 / size,
            "exact_vectors_beside": True,
        }
        for size, name in zip(sizes, ("IVF512", "IVF1024", "IVF4096_HNSW32"), strict=True)
    ]

    found = {row["measure"]: row for row in program("growth").growth(rows)}
    value = {measure: row["value"] for measure, row in found.items()}

    name = "HNSW32 at 0.99, 64 floats"
    assert value[f"{name}: time of a query grows as size to the power of"] == pytest.approx(0.5)
    assert value[f"{name}: a query among a billion, a guess"] == pytest.approx(1e9**0.5 / 1e3)
    assert value["HNSW32, 64 floats: a billion vectors, a guess"] == pytest.approx(300)
    assert value["IVF,SQ8, 64 floats: a billion vectors, a guess"] == pytest.approx(70)
    assert found["IVF,SQ8, 64 floats: a billion vectors, a guess"]["exact_vectors_beside"]
    assert len(value) == 4


def test_of_a_gallery_what_is_asked_about_is_left_out(program, tmp_path):
    search, vectors = program("search"), np.random.default_rng(0).normal(size=(200, 8))
    come = [Coming(f"class {row // 4}", f"{row:064x}", None, f"{row}.jpg") for row in range(200)]
    with Gallery.create(tmp_path / "made.gallery", dim=8, fingerprint="made") as gallery:
        gallery.stage([one.hash for one in come], vectors)
        gallery.revise("index", "", leave=[], come=come)

    data = search.gallery_set(str(tmp_path / "made.gallery"), 20, seed=0)

    assert (len(data.vectors), len(data.labels), len(data.queries), len(data.asked)) == (180, 180, 40, 40)
    assert (data.queries[:20] @ data.vectors.T).max() < 1 - 1e-6
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = (units @ data.queries[:20].T).argmax(axis=0) // 4
    # Classes are numbered as they came, from 1.
    assert classes.tolist() == (data.asked[:20] - 1).tolist()

"""The tune command is one call of the library; a drawing shows what it tried."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace

import numpy as np
import pytest

from engine import charts
from engine.cli.tuning import drawing
from indexer.approximate import Choice
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.trials import Promise, Trial
from indexer.tuning import Tuning


@pytest.fixture
def birds(tmp_path):
    """A gallery of 600 references in 60 classes."""
    vectors = np.random.default_rng(0).normal(size=(600, 16))
    come = [Coming(f"class {row // 10}", f"{row:064x}", None, f"{row}.jpg") for row in range(600)]
    with Gallery.create(tmp_path / "birds.gallery", dim=16, fingerprint="made") as gallery:
        gallery.stage([one.hash for one in come], vectors)
        gallery.revise("index", "", leave=[], come=come)
    return tmp_path / "birds.gallery"


def test_a_small_gallery_is_searched_exactly(run, birds):
    code, out, err = run("tune", "--gallery", birds)

    assert (code, err) == (0, "")
    assert out.count("fast enough") == 2


def test_json_is_what_the_library_found(run, birds, monkeypatch):
    asked = []

    def remember(gallery, promise, *, of, apply, progress):
        asked.append((promise, of, apply))
        return replace(made(), why=f"none of {of} does")

    monkeypatch.setattr(Gallery, "tune", remember)
    options = ["--ann-recall", 0.9, "-k", 5, "--latency-ms", 2, "--bytes-a-vector", 400, "--apply"]

    code, out, _ = run("tune", "--gallery", birds, *options, "--json")

    assert code == 0
    assert asked == [(Promise(0.9, 5, 2.0, 400.0), of, True) for of in ("references", "prototypes")]
    answer = json.loads(out)
    assert answer["of"] == "references"
    for what, told in (("references", answer), ("prototypes", answer["prototypes"])):
        assert told["trials"] == [asdict(trial) for trial in made().trials]
        assert (told["choice"], told["why"]) == (None, f"none of {what} does")


def test_only_what_was_asked_for_is_tuned(run, birds, tmp_path):
    _, out, _ = run("tune", "--gallery", birds, "--of", "prototypes", "--json")
    answer = json.loads(out)
    assert (answer["of"], "prototypes" in answer, answer["promise"]["k"]) == ("prototypes", False, 100)

    code, out, _ = run("tune", "--gallery", birds, "--of", "references", "--plot", tmp_path / "tried.svg")
    assert (code, "prototypes" in out, [one.name for one in tmp_path.glob("*.svg")]) == (0, False, ["tried.svg"])

    code, out, err = run("tune", "--gallery", birds, "--of", "classes")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "choose one of references, prototypes" in err


def test_all_that_was_tried_is_in_the_table_and_in_the_drawing(run, birds, tmp_path):
    code, out, _ = run(
        "tune", "--gallery", birds, "--latency-ms", 0, "--ann-recall", 0.8, "--plot", tmp_path / "tried.svg"
    )

    assert code == 0
    drawn = ET.parse(tmp_path / "tried.svg")
    names = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for kind in ("HNSW16,SQfp16", "HNSW32,SQ8", "IVF128,Flat", "IVF128,PQ4x4fs,Refine(SQ8)"):
        assert kind in out
        assert f"{kind} (480)" in names
    beside = ET.parse(tmp_path / "tried_prototypes.svg").getroot().get("aria-label")
    assert (drawn.getroot().get("aria-label"), beside) == tuple(
        f"What finding {k} {what} takes" for k, what in ((10, "references"), (100, "prototypes"))
    )


def test_a_promise_that_nobody_can_mean_is_refused_in_a_line(run, birds):
    code, out, err = run("tune", "--gallery", birds, "--ann-recall", 2)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "ann_recall is a share" in err


def test_it_does_not_wait_for_torch():
    program = "import sys, engine.cli; engine.cli.command('tune'); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def made():
    def trial(kind, ann_recall, microseconds):
        return Trial(Choice(kind, 8), 90, ann_recall, ann_recall - 0.01, microseconds, 20.0, 1.5, keeps=False)

    tried = [trial("HNSW32", 0.9, 100.0), trial("HNSW32", 0.99, 200.0), trial("IVF4,Flat", 1.0, 50.0)]
    return Tuning(Promise(), trial("Flat", 1.0, 1000.0), tried, None, "none does")


def test_on_the_drawing_what_finds_more_stands_further_right_and_what_takes_longer_higher():
    root = ET.fromstring(drawing(made(), "references"))

    lines = [line.get("points").split() for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    (exact,), (quick, thorough), (inverted,) = [[tuple(map(float, one.split(","))) for one in line] for line in lines]
    assert quick[0] < thorough[0] < exact[0] == inverted[0]
    assert exact[1] < thorough[1] < quick[1] < inverted[1]
    assert thorough[1] - exact[1] == pytest.approx((quick[1] - thorough[1]) * np.log(5) / np.log(2), abs=0.3)


def test_no_two_of_many_lines_look_the_same_and_a_million_is_written_in_full():
    names = [f"line {number}" for number in range(len(charts.COLOURS) + 3)]

    lines = {name: [(1e5, 1.0), (1e6, 2.0)] for name in names}
    root = ET.fromstring(charts.curves("many", lines, charts.logarithmic("vectors"), charts.logarithmic("µs")))

    svg = "{http://www.w3.org/2000/svg}"
    looks = [(line.get("stroke"), line.get("stroke-dasharray")) for line in root.iter(f"{svg}polyline")]
    keys = [(key.get("stroke"), key.get("fill")) for key in root.iter(f"{svg}circle") if key.get("r") == "4"]
    assert len(looks) == len(set(looks)) == len(keys) == len(set(keys)) == len(names)
    assert {"100,000", "1,000,000"} <= {text.text for text in root.iter(f"{svg}text")}


def test_in_letters_what_finds_more_stands_further_right_and_what_takes_longer_higher():
    lines = {"exact": [(1.0, 1000.0)], "graph": [(0.9, 100.0), (0.99, 200.0)], "lists": [(0.95, 20.0)]}

    drawn = charts.in_letters(lines, charts.nines("found"), charts.logarithmic("µs"), goal=0.99)

    field = drawn.split("└")[0].splitlines()[1:]
    places = {mark: [(row.index(mark), -up) for up, row in enumerate(field) if mark in row] for mark in "ABC"}
    (exact,), (thorough, quick), (lists,) = places["A"], places["B"], places["C"]
    assert quick[0] < lists[0] < thorough[0] < exact[0]
    assert lists[1] < quick[1] < thorough[1] < exact[1]
    assert {row.index("┊") for row in field if "┊" in row} == {thorough[0]}
    assert [line.split() for line in drawn.splitlines()[-3:]] == [["A", "exact"], ["B", "graph"], ["C", "lists"]]
    assert max(map(len, drawn.splitlines())) <= 80


def test_the_table_is_followed_by_a_plot_of_the_same(run, birds):
    _, out, _ = run("tune", "--gallery", birds, "--latency-ms", 0, "--ann-recall", 0.8)

    assert "µs a query\n" in out
    assert "  A  exact" in out
    assert "  B  HNSW16,SQfp16 (480)" in out


def test_an_axis_of_nines_puts_as_much_between_90_and_99_as_between_99_and_999():
    place = charts.nines("").place

    assert place(0.999) - place(0.99) == pytest.approx(place(0.99) - place(0.9))
    assert place(1.0) == place(1 - 1e-9) == charts.MOST_NINES

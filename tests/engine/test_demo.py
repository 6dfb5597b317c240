from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from engine import demo, report
from engine.weights import load_embedder
from indexer.errors import ArgumentError

pytest.importorskip("sklearn")


@pytest.fixture
def few_digits(monkeypatch):
    """Every tenth of the digits: the whole set takes a minute."""
    from sklearn import datasets

    digits = datasets.load_digits()
    few = type("Few", (), {"images": digits.images[::10], "target": digits.target[::10]})
    monkeypatch.setattr(datasets, "load_digits", lambda: few)


class Balanced(HTMLParser):
    """Fails on a tag that is closed wrongly; collects text and pictures."""

    EMPTY = ("img", "meta", "rect", "br")

    def __init__(self):
        super().__init__()
        self.open, self.text, self.pictures = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.pictures += tag == "img"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_demo_does_the_main_job_and_shows_it(few_digits, weights, tmp_path):
    said = []

    result = demo.run_demo(tmp_path / "demo", weights=weights, choices=5, say=said.append)

    page = Balanced()
    html = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    page.feed(html)
    assert page.open == []
    assert page.pictures > 60
    assert f"{result.accuracy:.1f} ± {result.interval:.1f} %" in "".join(page.text)
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert result.images == 180
    assert any("star" in line for line in said)
    assert len(list((tmp_path / "demo" / "references").glob("?/*.png"))) == 10


def test_the_accuracy_is_what_counting_by_hand_gives(few_digits, weights, tmp_path):
    result = demo.run_demo(tmp_path / "demo", weights=weights, choices=3, seed=4, say=lambda _: None)

    images = sorted((tmp_path / "demo" / "digits").glob("[0-9]/*.png"), key=lambda path: path.name)
    vectors = load_embedder(weights).embed(images)
    labels = [path.parent.name for path in images]
    shares = []
    for chosen in demo.draw_references(labels, 3, 4):
        assert sorted(labels[row] for row in chosen) == list("0123456789")
        right = [
            labels[max(chosen, key=lambda known: float(vectors[row] @ vectors[known]))] == labels[row]
            for row in range(len(images))
            if row not in chosen
        ]
        shares.append(100 * sum(right) / len(right))
    assert result.accuracy == pytest.approx(np.mean(shares), abs=0.01)


def test_choices_of_references_differ_and_a_seed_makes_the_same_ones():
    labels = list("abcabcabc")

    draws = demo.draw_references(labels, 50, 0)

    assert all([labels[row] for row in draw] == list("abc") for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 10
    assert demo.draw_references(labels, 2, 0) == draws[:2]
    assert demo.draw_references(labels, 50, 1) != draws


def test_a_digit_lies_inside_its_margin_and_its_ink_is_dark():
    grid = np.full((8, 8), 16.0)

    written = np.asarray(demo.on_paper(grid, margin=20))

    expected = np.full((64, 64), 255)
    expected[20:44, 20:44] = 0
    np.testing.assert_array_equal(written, expected)


def test_a_second_demo_replaces_the_first(few_digits, weights, tmp_path):
    first = demo.run_demo(tmp_path / "demo", weights=weights, choices=2, say=lambda _: None)
    second = demo.run_demo(tmp_path / "demo", weights=weights, choices=2, say=lambda _: None)

    assert first.accuracy == second.accuracy


def test_a_folder_that_holds_something_else_is_refused_and_kept(few_digits, weights, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(ArgumentError, match="--out"):
        demo.run_demo(tmp_path, weights=weights, say=lambda _: None)

    assert (tmp_path / "thesis.txt").exists()


def test_what_comes_from_users_is_escaped():
    image = Image.new("L", (4, 4))

    html = report.decision_card(image, image, answer="<u>&", truth='"x"', note="<script>")
    html += report.confusion_table(["<i>"], [[3]]) + report.figures([("<1>", "&")])

    assert not re.search(r"<(u|script|i|1)>", html)

"""`firstsight set` and `show` have no behaviour of their own: the library call is the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from engine.recognizer import Recognizer
from indexer.gallery import Gallery


@pytest.fixture
def birds(tmp_path):
    with Gallery.create(tmp_path / "birds.gallery", dim=4, fingerprint="toy") as gallery:
        hashes = ["abcdef" + "0" * 58, "123456" + "0" * 58]
        gallery.add(
            "heron", [(hash, f"{hash[0]}.jpg", vector) for hash, vector in zip(hashes, np.eye(4), strict=False)]
        )
    return tmp_path / "birds.gallery"


def test_set_writes_what_json_says_and_text_as_it_is(run, birds):
    asked = ["price=3", "site=paris", 'code="3"', "wild=true", 'tags=[1, "a"]', "note=a=b", "odd=NaN", "none="]

    code, out, _ = run("set", "heron", *asked, "--gallery", birds, "--json")

    assert code == 0
    assert json.loads(out)["action"] == "set"
    with Gallery.open(birds) as gallery:
        expected = {"price": 3, "site": "paris", "code": "3", "wild": True, "tags": [1, "a"], "note": "a=b"}
        assert gallery.attributes("heron") == {**expected, "odd": "NaN", "none": ""}


def test_set_and_show_a_reference_by_path_or_hash(run, birds):
    assert run("set", "heron", "price=3", "-g", birds)[1] == "set 'price' of 'heron' (revision 2)\n"
    assert run("set", "heron", "site=pond", "--reference", "1.jpg", "-g", birds)[0] == 0
    assert run("set", "heron", "site=lake", "--reference", "abcdef", "-g", birds)[0] == 0

    code, out, _ = run("show", "heron", "-g", birds, "--json")

    assert code == 0
    with Gallery.open(birds) as gallery:
        assert json.loads(out) == asdict(gallery.describe("heron"))
    assert [one["attributes"] for one in json.loads(out)["references"]] == [{"site": "lake"}, {"site": "pond"}]
    shown = run("show", "heron", "-g", birds)[1]
    for told in ("heron", "price = 3", "1.jpg", 'site = "pond"', "abcdef000000"):
        assert told in shown


def test_null_removes_and_undo_brings_back(run, birds):
    run("set", "heron", "price=3", "site=paris", "-g", birds)
    run("set", "heron", "price=null", "-g", birds)
    with Gallery.open(birds) as gallery:
        assert gallery.attributes("heron") == {"site": "paris"}

    assert run("undo", "-g", birds)[0] == 0
    with Gallery.open(birds) as gallery:
        assert gallery.attributes("heron") == {"price": 3, "site": "paris"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["set", "heron", "price"], 2),
        (["set", "heron", "=3"], 2),
        (["set", "heron", 'price={"a": 1}'], 2),
        (["set", "heron", "price=1e999"], 2),
        (["set", "heron", "price=3", "--reference", "none.jpg"], 2),
        (["set", "heron"], 2),
        (["set", "stork", "price=3"], 1),
        (["show", "stork"], 1),
    ],
)
def test_a_refusal_is_one_line_and_changes_nothing(run, birds, arguments, status):
    code, out, err = run(*arguments, "--gallery", birds)

    assert (code, out, err.count("\n")) == (status, "", 1)
    assert err.startswith("firstsight: ")
    with Gallery.open(birds) as gallery:
        assert gallery.revision == 1


def test_attributes_do_not_wait_for_torch():
    program = "import sys, engine.cli; engine.cli.command('set'); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture
def colours(run, photos, weights, tmp_path):
    path = tmp_path / "colours.gallery"
    assert run("index", photos, "--gallery", path, "--weights", weights)[0] == 0
    assert run("set", "red", "price=3", "site=paris", "-g", path)[0] == 0
    assert run("set", "green", "price=7", "site=paris", "-g", path)[0] == 0
    assert run("set", "blue", "price=4", "--reference", photos / "blue" / "1.png", "-g", path)[0] == 0
    return path


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        (["site=paris"], {"site": "paris"}),
        (["site=paris", "price<5"], {"site": "paris", "price": {"<": 5}}),
        (["price=[4, 7]"], {"price": [4, 7]}),
        (["price!=null"], {"price": {"!=": None}}),
        (["site=nowhere"], {"site": "nowhere"}),
        ([], None),
    ],
)
def test_where_is_what_the_library_answers(run, colours, photos, typed, where):
    query = str(photos / "grey" / "0.png")
    options = [part for text in typed for part in ("--where", text)]

    answer = json.loads(run("recognize", query, *options, "-g", colours, "--json")[1])
    found = json.loads(run("search", query, *options, "-g", colours, "--json")[1])["hits"]

    with Recognizer.open(colours) as recognizer:
        expected = recognizer.recognize(query, where=where)
        near = recognizer.search(query, where=where)
    assert answer["name"] == expected.name
    assert [(m["name"], m["reference"], m.get("attributes", {})) for m in answer["matches"]] == [
        (m.name, m.reference, m.attributes) for m in expected.matches
    ]
    assert [(h["reference"], h.get("attributes", {})) for h in found] == [(h.reference, h.attributes) for h in near]
    assert sum(m["probability"] for m in answer["matches"]) == pytest.approx(1.0 if answer["matches"] else 0.0)


def test_what_people_read_tells_that_no_class_is_left(run, colours, photos):
    code, out, _ = run("recognize", photos / "grey" / "0.png", "--where", "site=nowhere", "-g", colours)

    assert code == 0
    assert "no class to choose from" in out


def test_a_condition_that_cannot_be_asked_is_wrong_usage(run, colours, photos):
    for text in ("site", "price<true", "price<[1]", "=3"):
        code, out, err = run("search", photos / "red" / "0.png", "--where", text, "-g", colours)
        assert (code, out, err.count("\n")) == (2, "", 1)

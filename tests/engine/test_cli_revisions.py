"""Commands about revisions have no behaviour of their own: the library call is the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from engine.recognizer import Recognizer
from indexer.gallery import Gallery


@pytest.fixture
def squares(photos, weights, tmp_path):
    """Three revisions: four classes of three images, then red is called scarlet, then blue is gone."""
    with Recognizer.create(tmp_path / "squares.gallery", weights=weights, device="cpu") as made:
        made.index(photos)
        made.rename("red", "scarlet")
        made.forget("blue")
    return tmp_path / "squares.gallery"


def test_recognize_and_search_answer_as_of_a_revision(run, squares, photos):
    image = photos / "red" / "0.png"
    for as_of, red in ((1, "red"), (2, "scarlet")):
        code, out, _ = run("recognize", image, "-g", squares, "--as-of", as_of, "--json")
        assert code == 0
        assert {match["name"] for match in json.loads(out)["matches"]} == {red, "blue", "green", "grey"}
        code, out, _ = run("search", image, "-g", squares, "--as-of", as_of, "--json", "-k", 99)
        assert (json.loads(out)["hits"][0]["name"], len(json.loads(out)["hits"])) == (red, 12)

    with Recognizer.open(squares) as recognizer:
        assert recognizer.recognize(image, as_of=1).name == "red"
        assert len(recognizer.search([image], k=99, as_of=3)[0]) == 9
        assert recognizer.recognize(image) == recognizer.recognize(image, as_of=3)


def test_a_revision_that_is_not_there_is_refused_in_a_line(run, squares, photos):
    for command in (("recognize", photos / "red" / "0.png", "--as-of", 9), ("diff", 9), ("diff", 1, 9)):
        code, out, err = run(*command, "-g", squares)

        assert (code, out) == (1, "")
        assert err == "firstsight: there is no revision 9; the newest is 3, and log lists them all\n"


def test_diff_prints_what_the_library_says(run, squares):
    with Gallery.open(squares) as gallery:
        expected = asdict(gallery.diff(1))

    assert json.loads(run("diff", 1, "-g", squares, "--json")[1]) == json.loads(json.dumps(expected))
    code, out, _ = run("diff", 1, 3, "-g", squares)
    lines = out.splitlines()
    assert code == 0
    assert [line for line in lines if not line.startswith("    ")] == [
        "- blue",
        "  red -> scarlet",
        "revision 1 to 3: 0 references came, 3 references went; classes that differ: 2",
    ]
    assert sum(line.startswith("    - ") for line in lines) == 3
    assert run("diff", 3, 2, "-g", squares)[1].splitlines()[0] == "+ blue"


def test_commands_about_revisions_do_not_load_torch():
    code = "import sys, engine.cli as cli; cli.command('diff'); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_compact_forgets_and_says_what(run, squares):
    code, out, _ = run("compact", "--keep", 2, "-g", squares, "--json")

    done = json.loads(out)
    assert (code, done["oldest"], done["newest"], done["forgotten"], done["images"]) == (0, 2, 3, 1, 0)
    assert run("diff", 1, "-g", squares)[0] == 1
    code, out, _ = run("compact", "--keep", 1, "-g", squares)
    assert code == 0
    assert out.startswith("1 revision and 3 embeddings forgotten, ")
    assert out.endswith("kept: 3 to 3\n")
    assert run("compact", "--keep", 0, "-g", squares)[0] == 2
    assert run("compact", "-g", squares)[0] == 2


def test_verify_repairs_what_it_can_when_asked(run, squares):
    with (squares / "references.faiss").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")

    code, out, _ = run("verify", "-g", squares, "--json")
    assert (code, json.loads(out)["sound"]) == (1, False)
    code, out, _ = run("verify", "--repair", "-g", squares)
    assert (code, out) == (0, "made the views anew\nthe gallery is sound\n")
    code, out, _ = run("verify", "--repair", "-g", squares, "--json")
    assert (code, json.loads(out)) == (0, {"sound": True, "broken": [], "repaired": []})

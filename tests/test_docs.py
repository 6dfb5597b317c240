"""What the documentation shows is executed, and what it says of the commands is true."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from engine import cli, demo
from engine.recipes import RECIPES
from engine.weights import BUNDLED, read_checkpoint
from indexer.conditions import Conditions, typed

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ATTRIBUTES = (ROOT / "docs" / "attributes.md").read_text(encoding="utf-8")
WEIGHTS = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")

needs_weights = pytest.mark.skipif(not BUNDLED.exists(), reason="the package was built without its weights")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def after_the_demo(tmp_path, monkeypatch):
    """The folder that `make demo` leaves, without its galleries and its page."""
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    demo.write_images(Path("demo"), seed=0, say=lambda _: None)


def shell(line, monkeypatch):
    """Run a line of the shell; return what it prints, on a terminal as wide as it likes."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        cli.main()
    return out.getvalue()


def told(text):
    """What an output tells: the place it was run in and the seconds it took are left open."""
    text = text.replace(str(Path.cwd()), "…")
    text = re.sub(r"\b\d+\.\d s\b", "0.0 s", re.sub("─+", "─", text))
    return [line.rstrip() for line in text.strip().splitlines() if line.strip()]


@needs_weights
def test_the_python_of_the_readme_prints_what_it_says(after_the_demo, capsys):
    program, output = blocks(README, "python")[0], blocks(README, "text")[0]

    exec(compile(program, "README.md", "exec"), {})

    assert told(capsys.readouterr().out) == told(output)


@needs_weights
def test_the_shell_session_of_the_readme_prints_what_it_says(after_the_demo, monkeypatch):
    session = next(block for block in blocks(README, "console") if "--gallery" in block)

    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
        assert told(shell(command, monkeypatch)) == told(output), command


def test_the_python_of_the_page_on_attributes_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program, output = blocks(ATTRIBUTES, "python")[0], blocks(ATTRIBUTES, "text")[0]

    exec(compile(program, "attributes.md", "exec"), {})

    assert told(capsys.readouterr().out) == told(output)


def test_what_the_page_on_attributes_says_may_be_typed_is_the_condition_beside_it():
    rows = re.findall(r"^\| `(\{.*?\})` \| (`.*?`) \|", ATTRIBUTES, re.MULTILINE)

    assert len(rows) == 6
    for condition, written in rows:
        assert Conditions(typed(re.findall("`(.*?)`", written))).key == Conditions(ast.literal_eval(condition)).key


def test_every_command_has_help_and_is_in_the_readme():
    for name in cli.COMMANDS:
        assert cli.command(name).__doc__, name
        assert f"firstsight {name}" in README


def test_every_recipe_is_in_the_documentation():
    documented = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))

    for name in RECIPES:
        assert f"`{name}`" in documented


@needs_weights
def test_the_bundled_weights_were_made_by_the_commands_that_stand_in_the_documentation(monkeypatch, tmp_path):
    *_, learning, blending, finishing = (block for block in blocks(WEIGHTS, "sh") if "train_bundled.py" in block)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    program, asked, made = importlib.import_module("train_bundled"), {}, {}
    for name in ("unpacked", "photo_training_folder"):
        monkeypatch.setattr(program, name, lambda *_: tmp_path)
    monkeypatch.setattr(program, "train", lambda data, out, **settings: asked.update(settings, data=data))
    for name in ("blend", "finish"):
        monkeypatch.setattr(program, name, lambda *arguments, name=name: made.update({name: arguments}))

    for command in (learning, blending, finishing):
        monkeypatch.setattr(sys, "argv", shlex.split(command.replace("\\\n", " "))[1:])
        program.main()

    card, _ = read_checkpoint(BUNDLED)
    trained, blend, finish = card["training"], card["blend"], card["finish"]
    assert made["blend"] == (blend["files"], blend["shares"], finish["file"], blend["seed"])
    assert made["finish"] == (finish["file"], "bundled.safetensors", finish["colours"], finish["seed"])
    assert asked["backbone"] == card["embedder"]["backbone"]
    assert asked["size"] == card["embedder"]["preprocessing"]["size"]
    for name in ("recipe", "options", "steps", "accumulate", "seed", "weights", "weight_decay", "learning_rate"):
        assert asked[name] == trained[name], name
    for one, seen in zip(asked["data"], trained["data"], strict=True):
        augment = asdict(one.augment)
        assert {"kind": "Balanced", **asdict(one.sampler)} == seen["sampler"]
        # What came later is off unless it is asked for.
        assert {name: augment.pop(name) for name in seen["augment"]} == seen["augment"]
        assert not any(augment.values())
        assert one.quarter_turns == seen["quarter_turns"]


def test_the_changelog_knows_the_version():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_document_names_a_machine_or_an_index_host():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "requirements.txt", ROOT / "Makefile"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/home/|/root/|/work/|file://|--index-url|--find-links", text.replace("--no-emit", "")), (
            path
        )

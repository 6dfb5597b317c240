"""Exported, imported, merged: the library call is the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from indexer.gallery import Gallery
from indexer.merging import merge
from indexer.portable import export_gallery, import_gallery


@pytest.fixture
def birds(tmp_path):
    with Gallery.create(tmp_path / "birds.gallery", dim=4, fingerprint="toy") as gallery:
        gallery.add("heron", [("0", None, np.eye(4)[0])])
        gallery.add("egret", [("1", None, np.eye(4)[1]), ("2", None, np.eye(4)[2])])
    return tmp_path / "birds.gallery"


def test_export_and_import_do_what_the_library_does(run, birds, tmp_path):
    pytest.importorskip("pyarrow")
    code, out, _ = run("export", tmp_path / "out", "-g", birds, "--newest-only", "--json")
    assert (code, json.loads(out)) == (0, asdict(export_gallery(birds, tmp_path / "same", newest_only=True)))

    code, out, _ = run("import", tmp_path / "out", "-g", tmp_path / "back", "--json")
    assert (code, json.loads(out)) == (0, asdict(import_gallery(tmp_path / "same", tmp_path / "other")))

    code, out, _ = run("import", tmp_path / "out", "-g", tmp_path / "again")
    assert (code, out) == (0, "imported 2 classes from 3 images (revision 1)\n")


def test_merge_does_what_the_library_does(run, birds, tmp_path):
    for name in ("one", "two"):
        Gallery.create(tmp_path / name, dim=4, fingerprint="toy").close()

    code, out, _ = run("merge", birds, "-g", tmp_path / "one", "--json")

    assert (code, json.loads(out)) == (0, asdict(merge(tmp_path / "two", birds)))


def test_what_is_refused_is_one_line(run, birds, tmp_path):
    Gallery.create(tmp_path / "other", dim=4, fingerprint="other").close()

    for arguments in (
        ("export", birds, "-g", birds),
        ("export", tmp_path / "out", "-g", tmp_path / "none"),
        ("import", birds, "-g", tmp_path / "new"),
        ("merge", tmp_path / "other", "-g", birds),
    ):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert err.startswith("firstsight: ")


def test_none_of_them_waits_for_torch_or_pyarrow():
    code = "import sys, engine.cli.exchange; sys.exit('torch' in sys.modules or 'pyarrow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

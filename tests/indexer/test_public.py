from __future__ import annotations

import subprocess
import sys
from types import FunctionType, ModuleType

import indexer


def test_the_public_list_is_what_there_is_to_see():
    seen = {name for name, thing in vars(indexer).items() if name[0] != "_" and not isinstance(thing, ModuleType)}

    assert seen == set(indexer.__all__)
    assert len(indexer.__all__) == len(set(indexer.__all__))


def test_every_public_thing_says_what_it_is():
    for name in indexer.__all__:
        thing = getattr(indexer, name)
        if isinstance(thing, type | FunctionType):
            assert thing.__doc__, name
            assert not thing.__doc__.startswith(f"{name}("), f"{name} has only the docstring that dataclass made"


def test_the_package_never_loads_torch_nor_the_engine():
    code = "import sys, indexer; sys.exit(any(name.split('.')[0] in ('torch', 'engine') for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

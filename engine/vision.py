"""What Firstsight takes from torchvision, which is imported here and nowhere else: without PyTorch's compiler.

One line of ``torchvision.ops``, for networks that detect, imports all of ``torch._dynamo`` for one function: that takes
seconds and 150 MB each time a program starts. While torchvision is imported something stands there that has this
function alone, and asks the compiler when it is called. Where torchvision wants more of it, it is imported as usual.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final

import torch  # noqa: F401 - before the stand-ins: it has to find its own modules

COMPILER: Final = "torch._dynamo"


def _import_torchvision() -> None:
    if "torchvision" in sys.modules or COMPILER in sys.modules:
        return
    stand_ins = {name: ModuleType(name) for name in (COMPILER, f"{COMPILER}.utils")}
    stand_ins[COMPILER].__path__ = []
    stand_ins[f"{COMPILER}.utils"].is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("torchvision")
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _is_compile_supported(device: Any) -> Any:
    return importlib.import_module(f"{COMPILER}.utils").is_compile_supported(device)


_import_torchvision()

from torchvision import __version__ as version  # noqa: E402 - now, and not before
from torchvision.models import ResNet101_Weights  # noqa: E402
from torchvision.models.resnet import Bottleneck, ResNet  # noqa: E402

__all__ = ["Bottleneck", "ResNet", "ResNet101_Weights", "version"]

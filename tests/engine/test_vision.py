"""torchvision is imported without PyTorch's compiler, and as usual where that cannot be."""

import subprocess
import sys

import pytest

COMPILER = "torch._dynamo"


def answer(program):
    """What a program says in a process of its own, where nothing has been imported."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_embeds_an_image_imports_no_compiler():
    said = answer(
        "import sys, numpy\n"
        "from engine import Recognizer\n"
        "from engine.weights import load_embedder\n"
        "from engine import runtime_torch\n"
        "from pathlib import Path\n"
        "embedder = load_embedder('bundled')\n"
        "pixels = numpy.zeros((2, 64, 64, 3), numpy.uint8)\n"
        "embedder.embed_pixels(pixels)\n"
        "runtime_torch.load(embedder, 'torch-float32', Path()).embed(pixels)\n"
        f"print('{COMPILER}' in sys.modules, 'torchvision' in sys.modules)"
    )

    assert said == ["False", "True"]


def test_the_compiler_is_whole_afterwards_and_torchvision_asks_it():
    said = answer(
        "import engine.vision, sys, torch\n"
        "from torchvision.ops import roi_align\n"
        "asked = sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu')\n"
        "import torch._dynamo, torch._dynamo.utils\n"
        "print(asked == torch._dynamo.utils.is_compile_supported('cpu'), hasattr(torch._dynamo, 'optimize'))\n"
        "print(roi_align(torch.ones(1, 1, 4, 4), [torch.tensor([[0., 0., 2., 2.]])], 2).shape == (1, 1, 2, 2))"
    )

    assert said == ["True", "True", "True"]


@pytest.mark.parametrize("asked", ["import torch._dynamo.config", "from torch._dynamo.utils import counters"])
def test_a_torchvision_that_asks_the_compiler_for_more_is_imported_as_usual(asked, tmp_path):
    package = tmp_path / "torchvision"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text(f"import torchvision.early\n{asked}\n__version__ = '9'\n")
    (package / "early.py").write_text("")
    (package / "models" / "__init__.py").write_text("ResNet101_Weights = 1\n")
    (package / "models" / "resnet.py").write_text("Bottleneck = ResNet = 2\n")

    said = answer(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import engine.vision as vision\n"
        f"compiler = sys.modules['{COMPILER}']\n"
        "print(vision.version, vision.ResNet, compiler.__name__, hasattr(compiler, 'optimize'))"
    )

    assert said == ["9", "2", COMPILER, "True"]


def test_who_has_imported_torchvision_before_decides():
    said = answer(
        f"import torchvision, sys; before = '{COMPILER}' in sys.modules; import engine.vision as vision\n"
        f"print(before == ('{COMPILER}' in sys.modules), vision.version == torchvision.__version__)"
    )

    assert said == ["True", "True"]

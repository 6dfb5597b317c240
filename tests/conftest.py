from __future__ import annotations

import torch

# Many threads make small tests slow on a busy machine.
torch.set_num_threads(1)

"""Where and how precisely the network runs."""

from __future__ import annotations

import contextlib

import torch

from indexer.errors import ArgumentError


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device asked for, or the best one there is: CUDA, then MPS, then CPU."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"device {device!r} cannot be used here: choose cpu, or leave it out") from error
    return chosen


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which training uses bfloat16, where the device computes with it natively."""
    native = {
        "cuda": torch.cuda.is_bf16_supported,
        "cpu": torch.cpu._is_avx512_bf16_supported,
    }
    if native.get(device.type, lambda: False)():
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()

"""Where to compute, and in which precision."""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass
from typing import Literal

import torch

from doctune.errors import ConfigError

# oneDNN and PyTorch's layer above it keep a compiled kernel, with its buffers, for each of the last 1,024 shapes.
# Packed batches have a shape of their own nearly every step: that grows to gigabytes, and is hardly ever used again.
# A step needs some dozens.
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS_KEPT = "64"


@dataclass(frozen=True, slots=True)
class Device:
    """A device and the precision of matrix products on it; weights and optimiser stay in float32."""

    torch: torch.device
    precision: Literal["fp32", "bf16"]

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Within it matrix products run in this precision."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch.type, dtype=torch.bfloat16)


def choose_device(device: str = "auto", precision: Literal["auto", "fp32", "bf16"] = "auto") -> Device:
    """The device that the settings name; auto takes a GPU if there is one, and bf16 where the processor has it.

    Raises `ConfigError` for a device that is not there, or a precision that is none.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"training.precision: give auto, fp32 or bf16, found {precision!r}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"training.device: {device!r} is not there ({reason}); use auto or cpu") from None
    if chosen.type == "cpu":
        for cache in KERNEL_CACHES:  # read at the first product of matrices
            os.environ.setdefault(cache, KERNELS_KEPT)
    if chosen.type == "cuda":
        # Said once by autograd's own thread, which then does what it says is to be done.
        warnings.filterwarnings("ignore", "Attempting to run cuBLAS, but there was no current CUDA context")
    if precision == "auto":
        precision = "bf16" if _has_bf16(chosen) else "fp32"
    return Device(chosen, precision)


def _has_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than float32 ones here."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in checks)
    return False

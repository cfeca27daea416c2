"""A batch encoded piece by piece: of each piece its vectors are kept, and the rest is computed again for its gradient.

Like `torch.utils.checkpoint`, but the forward pass of a piece leaves nothing behind at all, neither a graph nor a state
of the random numbers: a long document has hundreds of pieces, and small things that stay between large ones that go
make the memory that the process holds grow with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from doctune.tensors import Batch

Encode = Callable[[Batch], Tensor]


def encode_pieces(encode: Encode, pieces: Sequence[Batch], trained: bool) -> Tensor:
    """The vectors of all pieces, [N, F]; `trained`: `encode` has parameters that need gradients.

    The last piece keeps everything, for in the backward pass its turn is first.
    """
    if not (trained and torch.is_grad_enabled()):
        return torch.cat([encode(piece) for piece in pieces])
    *earlier, last = pieces
    anchor = torch.empty(0, requires_grad=True)
    first: Tensor = _Anew.apply(anchor, encode, earlier)  # type: ignore[no-untyped-call]
    return torch.cat([first, encode(last)])


class _Anew(torch.autograd.Function):
    """Encodes pieces without a graph; backward encodes each once more and adds to the parameters' gradients itself.

    `anchor` is there so that autograd asks for a gradient: the parameters are in `encode`.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, encode: Encode, pieces: Sequence[Batch]) -> Tensor:
        device = pieces[0].input_ids.device.type
        ctx.encode, ctx.pieces = encode, pieces
        ctx.autocast = {
            "device_type": device, "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
        }  # fmt: skip
        # A seed for each piece, so that dropout is the same the second time.
        ctx.seeds = torch.randint(2**62, (len(pieces),)).tolist()
        ends = torch.tensor([piece.num_windows for piece in pieces]).cumsum(0).tolist()
        ctx.bounds = list(zip([0, *ends], ends, strict=False))
        vectors = anchor
        # Autocast must not remember weights that were converted without a gradient: the last piece would take them.
        with torch.autocast(**ctx.autocast, cache_enabled=False):
            for piece, seed, (start, stop) in zip(pieces, ctx.seeds, ctx.bounds, strict=True):
                torch.manual_seed(seed)
                found = encode(piece)
                if start == 0:
                    vectors = found.new_empty(ends[-1], *found.shape[1:])
                vectors[start:stop] = found
        return vectors

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        with torch.random.fork_rng([grad.device] if grad.is_cuda else []):
            for piece, seed, (start, stop) in reversed(list(zip(ctx.pieces, ctx.seeds, ctx.bounds, strict=True))):
                torch.manual_seed(seed)
                with torch.enable_grad(), torch.autocast(**ctx.autocast):
                    found = ctx.encode(piece)
                torch.autograd.backward(found, grad[start:stop])
        return None, None, None

"""The gate of `gpu.py`: on the card doctune must compute what transformers computes, as near as bf16 allows.

The reference is transformers' encoder, padded, in fp32. In bf16 doctune may be twice as far from it as transformers'
own autocast is, plus 0.001: hidden states and gradients, of all rows and where the highest layer is computed for some.
"Own" of a gradient is the error of the same tensor, or the median over all tensors, whichever is more: autocast keeps
the last norm's in float32. Weights are as large as trained ones, for what the layers add must not be lost in rounding
what they add it to.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_bench import Bench, Figures
from torch import Tensor

from doctune.devices import Device
from doctune.encoders.load import load_encoder
from doctune.settings import EncoderSettings
from doctune.tensors import Batch

FACTOR, ALLOWANCE = 2.0, 1e-3
# In deep layers of random weights the gradients of queries and keys nearly cancel: rounding alone is 8e-4 of them.
FP32_ALLOWANCE = 2e-3
# A gradient that is zero but for rounding (that of a bias of keys) has no direction that could be compared.
LEAST_SHARE = 1e-4
MASKED = 0.15
PRINTED = 10  # of the tensors that are too far off; the file has them all
STATES = "hidden states"
Tensors = dict[str, Tensor]


def equal(bench: Bench) -> None:
    """One measurement for each family and way of reading."""
    positions = bench.sizes.equal_longest + 4
    tiny: dict[str, Any] = {
        "vocab_size": bench.sizes.vocab_size, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 256, "max_position_embeddings": positions, "pad_token_id": 0,
        "initializer_range": 128**-0.5,
    }  # fmt: skip
    folders: dict[str, Callable[[], Path]] = {
        "bert": lambda: bench.bert(bench.sizes.base, positions, bench.sizes.base[1] ** -0.5),
        "roberta": lambda: bench.other("roberta", **{**tiny, "pad_token_id": 1, "type_vocab_size": 1}),
        "distilbert": lambda: bench.other(
            "distilbert", vocab_size=bench.sizes.vocab_size, dim=128, n_layers=4, n_heads=4, hidden_dim=256,
            max_position_embeddings=positions, initializer_range=128**-0.5,
        ),
        "modernbert": lambda: bench.other(
            "modernbert", **tiny, local_attention=16, global_attn_every_n_layers=3, bos_token_id=1, eos_token_id=2,
            cls_token_id=1, sep_token_id=2,
        ),
    }  # fmt: skip
    for kind, folder in folders.items():
        for some in (False, True):
            name = f"{kind}, {'rows read' if some else 'all rows'}"
            bench.measure(name, partial(compare, bench, folder, some))


def ragged(bench: Bench) -> Batch:
    """Sequences of 3 to 128 tokens and one long one, of random ids."""
    random = np.random.default_rng(bench.seed)
    most = min(128, bench.sizes.equal_longest)
    lengths = (*random.integers(3, most + 1, bench.sizes.equal_texts).tolist(), bench.sizes.equal_longest, 3, most)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.concatenate([np.arange(length) for length in lengths])
    return Batch(
        input_ids=torch.from_numpy(random.integers(5, bench.sizes.vocab_size, int(bounds[-1]))),
        position_ids=torch.from_numpy(positions), token_type_ids=torch.zeros(int(bounds[-1]), dtype=torch.int64),
        cu_seqlens=torch.from_numpy(bounds), max_seqlen=max(lengths), window_of=torch.arange(len(lengths)),
        rows=torch.arange(len(lengths)), lengths=lengths,
    )  # fmt: skip


def compare(bench: Bench, make: Callable[[], Path], some: bool) -> tuple[Figures, str]:
    """The errors of doctune and of transformers' autocast against transformers in fp32."""
    folder, batch, where = make(), ragged(bench), bench.device.torch
    generator = torch.Generator().manual_seed(bench.seed)
    rows = None
    if some:
        masked = torch.rand(batch.num_tokens, generator=generator) < MASKED
        rows = torch.cat([masked.nonzero().flatten(), batch.cu_seqlens[:-1]]).to(where)
    fp32, bf16 = Device(where, "fp32"), Device(where, "bf16")
    plain, ours = (
        load_encoder(folder, EncoderSettings(encoder=str(folder), packing=packing, dropout=0.0), (-1,)).encoder
        for packing in ("padded", "auto")
    )
    size = batch.num_tokens if rows is None else len(rows)
    direction = torch.randn(size, plain.hidden_size, generator=generator).to(where)
    moved = batch.to(where)
    reference = passes(plain.to(where), moved, rows, direction, fp32)
    theirs = errors(passes(plain, moved, rows, direction, bf16), reference)
    in_bf16 = errors(passes(ours.to(where), moved, rows, direction, bf16), reference)
    in_fp32 = errors(passes(ours, moved, rows, direction, fp32), reference)
    return judged(in_bf16, in_fp32, theirs, ours.packing)


def passes(encoder: Any, batch: Batch, rows: Tensor | None, direction: Tensor, device: Device) -> Tensors:
    """Hidden states, and the gradient of each parameter along a direction; in training mode, without dropout."""
    encoder.train().zero_grad(set_to_none=True)
    with device.autocast():
        states = encoder(batch).layers[-1] if rows is None else encoder.read(batch, rows)
    (states.float() * direction).sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    found = {
        STATES: states.detach().float(),
        **{name: grad.detach().float().clone() for name, grad in gradients.items()},
    }
    encoder.zero_grad(set_to_none=True)
    return found


def errors(found: Tensors, reference: Tensors) -> dict[str, float]:
    """||a - b|| / ||b|| of each tensor; that of a tensor that one of them lacks is infinite."""
    least = LEAST_SHARE * max(float(grad.norm()) for name, grad in reference.items() if name != STATES)
    off = {}
    for name in sorted(found.keys() | reference.keys()):
        if name not in found or name not in reference:
            off[name] = float("inf")
        elif (size := float(reference[name].norm())) >= least:
            off[name] = float((found[name] - reference[name]).norm()) / size
    return off


def judged(
    bf16: dict[str, float], fp32: dict[str, float], theirs: dict[str, float], packing: str
) -> tuple[Figures, str]:
    """The figures, with the tensors that are too far off; a number that is not finite is."""
    gradients = [name for name in bf16 if name != STATES]
    usual = statistics.median(off for name, off in theirs.items() if name != STATES)
    least = {name: 0.0 if name == STATES else usual for name in bf16}
    allowed = {name: FACTOR * max(theirs.get(name, 0.0), least[name]) + ALLOWANCE for name in bf16}
    far = {name: [off, allowed[name]] for name, off in bf16.items() if not off <= allowed[name]}
    far |= {f"{name} (fp32)": [off, FP32_ALLOWANCE] for name, off in fp32.items() if not off <= FP32_ALLOWANCE}
    worst = max(gradients, key=lambda name: bf16[name] / allowed[name])
    figures = {
        "failed": bool(far), "packing": packing, "tensors": len(bf16), "too_far": far,
        STATES: {"doctune": bf16[STATES], "transformers": theirs[STATES], "doctune in fp32": fp32[STATES]},
        "worst gradient": {"name": worst, "doctune": bf16[worst], "transformers": theirs.get(worst, 0.0)},
        "median gradient": {"doctune": statistics.median(bf16[name] for name in gradients), "transformers": usual},
        "worst gradient in fp32": max(fp32[name] for name in gradients),
    }  # fmt: skip
    line = (
        f"{'FAILED' if far else 'equal'} ({packing}): hidden states off by {bf16[STATES]:.2e}, transformers' autocast "
        f"by {theirs[STATES]:.2e}; worst gradient {worst} by {bf16[worst]:.2e}, theirs {theirs.get(worst, 0.0):.2e}; "
        f"in fp32 {max(fp32.values()):.1e}"
    )
    shown = list(far.items())[:PRINTED]
    return figures, line + "".join(f"\n  {name}: {off:.2e}, allowed {by:.2e}" for name, (off, by) in shown)

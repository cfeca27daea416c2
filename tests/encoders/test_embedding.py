"""The row-wise gradient equals PyTorch's dense one, step after step."""

from __future__ import annotations

import copy

import torch
from torch import nn

from doctune.encoders.embedding import RowEmbedding

ROWS, SIZE = 50, 8


def pair() -> tuple[nn.Embedding, RowEmbedding]:
    torch.manual_seed(0)
    plain = nn.Embedding(ROWS, SIZE, padding_idx=0)
    return plain, RowEmbedding(copy.deepcopy(plain))


def backward(table: nn.Embedding, ids: torch.Tensor, scale: float) -> torch.Tensor:
    out = table(ids)
    (out * torch.arange(1.0, out.numel() + 1).view_as(out) * scale).sum().backward()
    return out.detach()


def test_equal_over_steps_and_accumulation() -> None:
    plain, rows = pair()
    random = torch.Generator().manual_seed(1)
    optimizers = [torch.optim.AdamW(table.parameters(), lr=0.1, fused=True) for table in (plain, rows)]
    for accumulated in (1, 3, 1, 2):
        for part in range(accumulated):
            # Repeated ids add up, and pads (0) have no gradient.
            ids = torch.randint(0, 9 + part, (1, 12), generator=random)
            torch.testing.assert_close(backward(rows, ids, 0.1), backward(plain, ids, 0.1))
        for table in (plain, rows):
            table.weight.grad.div_(2)  # what clipping and averaging do, in place
        torch.testing.assert_close(rows.weight.grad, plain.weight.grad)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.testing.assert_close(rows.weight, plain.weight)


def test_the_buffer_is_kept_and_holds_nothing_of_the_step_before() -> None:
    _, rows = pair()
    backward(rows, torch.tensor([[3, 4]]), 1.0)
    first = rows.weight.grad
    rows.zero_grad(set_to_none=True)
    backward(rows, torch.tensor([[5]]), 1.0)
    assert rows.weight.grad is first
    assert first.abs().sum(1).nonzero().flatten().tolist() == [5]


def test_no_gradient_where_none_is_wanted() -> None:
    _, rows = pair()
    with torch.no_grad():
        assert not rows(torch.tensor([1])).requires_grad
    rows.requires_grad_(False)
    assert not rows(torch.tensor([1])).requires_grad
    assert rows.weight.grad is None


def test_the_name_of_the_weight_stays() -> None:
    plain, rows = pair()
    assert list(rows.state_dict()) == list(plain.state_dict())

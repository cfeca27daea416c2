"""The loss over a large vocabulary is PyTorch's, gradient included."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from doctune.heads.mlm import masked_loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 8, 21])
def test_loss_and_gradient_equal_cross_entropy(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(rows)
    logits = (5 * torch.randn(rows, 300) + 40).to(dtype)
    labels = torch.randint(0, 300, (rows,))
    plain, ours = (logits.clone().requires_grad_() for _ in range(2))
    expected = cross_entropy(plain.float(), labels, reduction="sum")
    loss = masked_loss(ours, labels)
    assert loss.count.item() == rows
    torch.testing.assert_close(loss.sum, expected, rtol=1e-5, atol=1e-5)
    (expected / 7).backward()
    (loss.sum / 7).backward()
    assert ours.grad.dtype == dtype
    tolerance = 1e-6 if dtype is torch.float32 else 2e-3
    torch.testing.assert_close(ours.grad, plain.grad, rtol=tolerance * 4, atol=tolerance)


def test_no_token_is_no_loss() -> None:
    loss = masked_loss(torch.zeros(0, 10, requires_grad=True), torch.zeros(0, dtype=torch.int64))
    assert (loss.sum.item(), loss.count.item()) == (0.0, 0.0)


def test_without_gradient_none_is_made() -> None:
    with torch.inference_mode():
        loss = masked_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    assert loss.sum.item() == pytest.approx(0.3132617)

from __future__ import annotations

import torch
from torch import nn

from doctune.encoders.dropout import ByteDropout, replace_dropout


def test_share_and_scale() -> None:
    torch.manual_seed(0)
    out = ByteDropout(0.1)(torch.ones(1_000_001))
    dropped = (out == 0).double().mean().item()
    assert abs(dropped - 0.1) < 4 * (0.1 * 0.9 / 1e6) ** 0.5
    assert abs(out.mean().item() - 1) < 2e-3
    assert len(out.unique()) == 2


def test_gradient_is_that_of_the_mask() -> None:
    x = torch.ones(999, requires_grad=True)
    out = ByteDropout(0.3)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())


def test_seeded_and_off_in_evaluation() -> None:
    layer, x = ByteDropout(0.5), torch.randn(100)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(first, layer(x))
    assert layer.eval()(x) is x
    assert ByteDropout(0.0)(x) is x


def test_replaces_every_dropout_with_its_own_rate() -> None:
    model = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3)))
    assert replace_dropout(model, None) == 2
    assert [m.p for m in model.modules() if isinstance(m, ByteDropout)] == [0.2, 0.3]

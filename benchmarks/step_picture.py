"""The parts of a step, by PyTorch's names of operations, and their picture: one stacked bar for each way."""

from __future__ import annotations

from html import escape

# What each part is, the beginnings of the names of its operations, and its colour; the first that fits counts.
PARTS = {
    "products": (("aten::mm", "aten::addmm", "aten::linear"), "#31688e"),
    "attention": (
        ("aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::softmax", "aten::_scaled_dot", "aten::scaled_dot",
         "aten::masked_fill", "_PackedAttention"),
        "#35b779",
    ),
    "dropout": (
        ("aten::random_", "aten::bernoulli_", "aten::native_dropout", "aten::dropout", "aten::ge", "aten::addcmul"),
        "#fde725",
    ),
    "optimiser and clipping": (
        ("aten::_fused_adamw_", "aten::_foreach", "aten::linalg_vector_norm", "Optimizer."), "#b5367a",
    ),
    "filling and gradient of embeddings": (
        ("aten::zero", "aten::fill_", "aten::embedding", "aten::_index_put", "aten::index_add_", "aten::scatter_add"),
        "#fb8861",
    ),
    "conversions and copies": (
        ("aten::copy_", "aten::_to_copy", "aten::to", "aten::clone", "aten::contiguous", "aten::cat", "aten::index",
         "aten::gather"),
        "#999999",
    ),
    "the rest, element by element": ((), "#d0d0d0"),
}  # fmt: skip
REST = list(PARTS)[-1]
LEFT, WIDTH, ROW, TOP = 270, 860, 30, 78


def part_of(name: str) -> str:
    """The part that an operation belongs to."""
    return next((part for part, (starts, _) in PARTS.items() if starts and name.startswith(starts)), REST)


def draw(milliseconds: dict[str, float], shares: dict[str, dict[str, float]]) -> str:
    """An SVG of the time of a step in each way, cut into its parts."""
    height = TOP + ROW * len(milliseconds) + 14
    longest = max(milliseconds.values())
    last = list(milliseconds.values())[-1]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img">',
        "<title>Time of a step of fine-tuning, one trick after the other</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    x, y = 12.0, 20
    for part, (_, colour) in PARTS.items():
        wide = 24 + 6.6 * len(part)
        if x + wide > WIDTH:
            x, y = 12.0, y + 22
        lines.append(f'<rect x="{x:.0f}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 17:.0f}" y="{y}">{escape(part)}</text>')
        x += wide + 12
    for row, (name, time) in enumerate(milliseconds.items()):
        top = TOP + ROW * row
        sign = "" if row == 0 or name.endswith("doctune") else "+ "
        lines.append(f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(sign + name)}</text>')
        start = float(LEFT)
        for part, (_, colour) in PARTS.items():
            wide = (WIDTH - LEFT - 130) * time / longest * shares[name][part]
            lines.append(
                f'<rect x="{start:.1f}" y="{top}" width="{wide:.1f}" height="{ROW - 8}" fill="{colour}">'
                f"<title>{escape(part)}: {time * shares[name][part]:.0f} ms</title></rect>"
            )
            start += wide
        lines.append(f'<text x="{start + 6:.1f}" y="{top + 15}">{time:.0f} ms, {time / last:.2f} times</text>')
    return "\n".join([*lines, "</svg>", ""])

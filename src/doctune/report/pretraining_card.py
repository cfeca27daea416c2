"""The README.md of a further pre-trained encoder: what it is, what it was trained on, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

OBJECTIVES = {
    "nsp": "masked words and next sentence",
    "sop": "masked words and sentence order",
    "none": "masked words",
}


def model_card(facts: dict[str, Any], name: str) -> str:
    """A model card in Markdown, with the header that model hubs read, from the facts of a pre-training run."""
    corpus, settings, held_out = facts["corpus"], facts["settings"], facts["held_out"]
    masking, scratch = settings["masking"], settings["start"]["encoder"] is None
    lines = [*_header(facts, scratch), f"# {name}", "", _what(facts, scratch), "", "## Training", ""]
    lines += _table([
        ("objective", OBJECTIVES[facts["objective"]]),
        ("steps, tokens", f"{facts['steps']:,}, {facts['tokens']:,}"),
        ("time", f"{facts['seconds'] / 3600:.1f} hours"),
        ("sequences", f"{settings['pairs']['sequence_len']} tokens, {settings['training']['batch_size']} in a batch"),
        ("masked", f"{100 * masking['masked_lm_prob']:.0f} % of the tokens, {masking['masking']}"),
        ("peak learning rate", f"{settings['optimizer']['learning_rate']:g}, {settings['schedule']['schedule']}"),
        ("new heads", ", ".join(facts["new_heads"]) or "none"),
    ])  # fmt: skip
    if held_out is not None:
        lines += ["", "On documents of the corpus that were kept out of training:", ""]
        lines += _table(
            [(key.replace("_", " "), f"{value:.4f}") for key, value in held_out.items()], ("figure", "value")
        )
    lines += ["", "## Corpus", "", *_corpus(corpus), "", "## Use", "", *_use(name), "", "## Settings", ""]
    lines += ["```json", json.dumps(settings, indent=1, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


def _header(facts: dict[str, Any], scratch: bool) -> list[str]:
    lines = ["---", "library_name: transformers", "pipeline_tag: fill-mask", "tags: [doctune, further-pre-training]"]
    base = str(facts["base_encoder"])
    if not scratch and not base.startswith((".", "/", "~")):
        lines.append(f"base_model: {base}")
    return [*lines, "---", ""]


def _what(facts: dict[str, Any], scratch: bool) -> str:
    corpus = facts["corpus"]
    size = f"{corpus['tokens']:,} tokens of {corpus['documents']:,} documents"
    if scratch:
        return f"An encoder of the BERT family, pre-trained from scratch by doctune {facts['doctune']} on {size}."
    return f"{facts['base_encoder']}, further pre-trained by doctune {facts['doctune']} on {size}."


def _corpus(corpus: dict[str, Any]) -> list[str]:
    rows = [(source["name"], f"{source['documents']:,}", f"{source['weight']:g}") for source in corpus["sources"]]
    lines = _table(rows, ("source", "documents", "weight"))
    names = ", ".join(record["name"] for record in corpus["exclude"])
    left_out = sum(corpus["left_out"].values())
    if corpus["transductive"]:
        lines += ["", f"**The corpus holds texts of {names}: figures on those say less of new documents.**"]
    elif names:
        lines += ["", f"Compared with {names}; {left_out:,} documents were left out (see ledger.jsonl)."]
    else:
        lines += ["", "The corpus was not compared with the texts of any test set."]
    return lines


def _use(name: str) -> list[str]:
    return [
        "```",
        f"doctune finetune --encoder {name} --train train.csv --text text --label label --output run",
        "```",
        "",
        "It is a Hugging Face folder: `AutoModelForMaskedLM`, `AutoModel` and sentence-transformers load it.",
    ]


def _table(rows: Iterable[tuple[str, ...]], head: tuple[str, ...] = ("", "")) -> list[str]:
    cells = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]

"""`doctune convert`: a TensorFlow 1 checkpoint of BERT as a Hugging Face folder, and the other way round."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from doctune.commands.command import Call, Command, flag
from doctune.errors import ConfigError
from doctune.files import atomic_folder

if TYPE_CHECKING:
    from doctune.convert.bert import Converted

SHOWN = 4  # of the tensors that are left out


def _run(call: Call) -> None:
    """The direction follows from what the source is."""
    args = call.args
    source, target = Path(args.source).expanduser(), Path(args.destination).expanduser()
    print("\n".join(convert(source, target, _path(args.config), _path(args.vocab), args.lower_case)))


def convert(
    source: Path,
    target: Path,
    config: Path | None = None,
    vocab: Path | None = None,
    lower_case: bool | None = None,
) -> list[str]:
    """Convert `source` into the new folder `target`, which appears only when all is written; the summary's lines.

    Raises `ConfigError` for a target that is not empty, `CheckpointError` for a source that cannot be converted.
    """
    from doctune.convert.bert import PREFIX, is_transformers_folder, to_tensorflow, to_transformers
    from doctune.convert.sources import INDEX, find_checkpoint

    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ConfigError(f"{target}: is not empty; name a new folder as DESTINATION")
    if not is_transformers_folder(source):
        checkpoint = find_checkpoint(source)
        with atomic_folder(target) as folder:
            converted = to_transformers(checkpoint, config, vocab, lower_case, folder)
        return [
            *_summary(checkpoint.label, converted, lower_case is None),
            f"written to   {target}",
            f"next         doctune finetune --encoder {target} --train FILE --text COLUMN --label COLUMN --output DIR",
        ]
    if any(source.glob(f"*{INDEX}")):
        raise ConfigError(
            f"{source}: holds a TensorFlow checkpoint and weights of transformers; give the checkpoint's prefix, or "
            f"move config.json, the safetensors and the tokenizer into a folder of their own"
        )
    for name, value in (("--config", config), ("--cased, --uncased", lower_case)):
        if value is not None:
            raise ConfigError(f"{name}: only for TensorFlow checkpoints; {source} has its own config and tokenizer")
    with atomic_folder(target) as folder:
        converted = to_tensorflow(source, vocab, folder)
    lower = "" if converted.lower_case is None else f" --do_lower_case={str(converted.lower_case).lower()}"
    return [
        *_summary(str(source), converted, False),
        f"written to   {target}",
        f"next         --init_checkpoint={target / PREFIX} --bert_config_file={target / 'bert_config.json'} "
        f"--vocab_file={target / 'vocab.txt'}{lower} (scripts of google-research/bert)",
    ]


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given).expanduser()


def _summary(source: str, converted: Converted, told: bool) -> list[str]:
    config = converted.config
    size = f"{config['num_hidden_layers']} layers, hidden {config['hidden_size']}, vocabulary {config['vocab_size']:,}"
    lines = [
        f"read         {source}",
        f"weights      {converted.num_parameters:,} parameters in {converted.num_weights} tensors, float32",
        f"model        {converted.architecture}: {size}",
        f"heads        {', '.join(converted.heads) or 'none, not even a pooler'}",
    ]
    if converted.lower_case is not None:
        hint = " (told by the vocabulary; otherwise say --cased or --uncased)" if told else ""
        lines.append(f"text         {'lower-cased' if converted.lower_case else 'not lower-cased'}{hint}")
    if converted.optimizers:
        kinds = Counter(name.rpartition("/")[2] for name in converted.optimizers)
        lines.append(f"skipped      of the optimiser: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
    if converted.left_out:
        more = f" and {len(converted.left_out) - SHOWN} more" if len(converted.left_out) > SHOWN else ""
        shown = ", ".join(converted.left_out[:SHOWN])
        lines.append(f"left out     {shown}{more}: neither encoder nor pre-training heads")
    return lines


COMMAND = Command(
    "convert", "convert a TensorFlow 1 checkpoint of BERT into a Hugging Face folder, or back", _run,
    flags=(
        flag(
            "source", metavar="SOURCE", help="checkpoint prefix (.../bert_model.ckpt), its folder, .index file or zip; "
            "or a Hugging Face folder of a BERT, which is written as a TensorFlow 1 checkpoint",
        ),
        flag("destination", metavar="DESTINATION", help="folder to make; nothing may be in it yet"),
        flag("--config", metavar="FILE", help="bert_config.json, if it is not beside the checkpoint"),
        flag("--vocab", metavar="FILE", help="vocab.txt, if it is not beside the checkpoint"),
        flag(
            "--cased", choice="case", dest="lower_case", action="store_false", default=None,
            help="do not lower-case texts",
        ),
        flag(
            "--uncased", choice="case", dest="lower_case", action="store_true", default=None,
            help="lower-case texts (default: told by whether the vocabulary has capital letters)",
        ),
    ),
    examples="examples:\n  doctune convert uncased_L-12_H-768_A-12.zip bert-base\n"
    "  doctune convert pretraining/model.ckpt-100000 my-bert --config bert_config.json --vocab vocab.txt\n"
    "  doctune convert my-bert my-bert-tf1          (back, for the TensorFlow scripts)\n",
)  # fmt: skip

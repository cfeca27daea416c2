"""What the sections of `gpu.py` share: sizes, random encoders and texts, and how a measurement is told and isolated."""

from __future__ import annotations

import csv
import gc
import math
import re
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Shard

from doctune.batches.collate import make_collator
from doctune.devices import Device
from doctune.encoders.resolve import MINI_FOLDER
from doctune.encoders.scratch import bert_config, new_bert
from doctune.examples import Example
from doctune.files import open_text
from doctune.settings import TruncationSettings
from doctune.store.build import build_shard
from doctune.store.splits import Dataset, make_dataset
from doctune.targets import SingleTarget
from doctune.text.tokenizer import TextTokenizer

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SENTENCE_MEAN = 22  # tokens of a made-up sentence
LABELS = ("0", "1", "2", "3")
TOLD = 1500  # letters of a traceback that are printed; the file has it all
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Steps of a measurement: so many that do not count, then `number` blocks of `steps` that are timed each."""

    warmup: int
    number: int
    steps: int

    @property
    def total(self) -> int:
        """All steps."""
        return self.warmup + self.number * self.steps

    @property
    def bounds(self) -> list[int]:
        """The steps before which a block begins, and behind which the last one ends."""
        return [self.warmup + block * self.steps for block in range(self.number + 1)]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is; encoders are (layers, hidden size)."""

    base: tuple[int, int] = (12, 768)
    small: tuple[int, int] = (6, 384)
    modern: tuple[int, int] = (22, 768)
    head_size: int = 64
    vocab_size: int = 30_522
    product: int = 8192
    copied: int = 1 << 32
    batch_tokens: tuple[int, ...] = (16_384, 32_768, 8_192)
    sequence_len: int = 128
    corpus: int = 8_000
    # doctune makes 32 batches at a time: each block has its share of that.
    pretraining: Blocks = Blocks(8, 3, 32)
    pretraining_ready: Blocks = Blocks(8, 4, 8)
    batch_sizes: tuple[int, ...] = (32, 128, 256)
    peer_batch_sizes: tuple[int, ...] = (32, 256)
    epoch: int = 120_000
    finetuning: Blocks = Blocks(10, 6, 10)
    small_batch: int = 16
    profiled: int = 20
    equal_longest: int = 700
    equal_texts: int = 24
    long: int = 8_190
    longest: int = 50_000
    window: int = 512
    texts: int = 24


TINY = Sizes(
    base=(2, 64), small=(1, 32), modern=(3, 64), head_size=32, vocab_size=16_384, product=64, copied=1 << 16,
    batch_tokens=(256,), sequence_len=32, corpus=60, pretraining=Blocks(1, 2, 1), pretraining_ready=Blocks(1, 2, 1),
    batch_sizes=(4,), peer_batch_sizes=(4,), epoch=100, finetuning=Blocks(1, 2, 1), small_batch=2, profiled=2,
    equal_longest=150, equal_texts=3, long=126, longest=600, window=32, texts=4,
)  # fmt: skip


@dataclass
class Bench:
    """What a section has. `tell` takes the name of a measurement and its figures, as soon as they are there.

    `rate`: FLOP/s of a large bf16 product, or None before it is measured. After `ends` no measurement begins.
    """

    section: str
    device: Device
    sizes: Sizes
    scratch: Path
    tell: Callable[[str, Figures], None]
    ends: float
    seed: int = 1
    texts: Path | None = None
    vocab: Path | None = None
    profile: Path | None = None
    rate: float | None = None
    found: dict[str, Figures] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether there is a card whose work must be waited for."""
        return self.device.torch.type == "cuda"

    def synchronize(self) -> None:
        """Wait for the card."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device.torch)

    def forget_peak(self) -> None:
        """Measure the most memory from here on; a processor's is not measured."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device.torch)

    def megabytes(self, most: bool = True) -> float:
        """Memory of tensors on the card, in 10^6 bytes: now, or the most since `forget_peak`."""
        if not self.on_gpu:
            return 0.0
        read = torch.cuda.max_memory_allocated if most else torch.cuda.memory_allocated
        return read(self.device.torch) / 1e6

    def measure(self, name: str, work: Callable[[], tuple[Figures, str]]) -> Figures | None:
        """Do one measurement, tell of it in a line, and keep its figures; one that fails does not stop the others."""
        if time.monotonic() > self.ends:
            self.note(name, {"skipped": "the section's seconds are spent"}, "skipped, the seconds are spent")
            return None
        try:
            figures, line = work()
        except SystemExit as missing:
            self.note(name, {"skipped": str(missing)}, f"skipped, {missing}")
            return None
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            self.note(name, told, f"FAILED, {type(error).__name__}: {str(error)[:300]}\n{told['traceback'][-TOLD:]}")
            return None
        finally:
            gc.collect()
            if self.on_gpu:
                torch.cuda.empty_cache()
        self.note(name, figures, line)
        return figures

    def note(self, name: str, figures: Figures, line: str) -> None:
        """Tell of figures that are there."""
        print(f"{self.section}: {name}: {line}", flush=True)
        self.found[name] = figures
        self.tell(name, _plain(figures))

    def tokenizer(self) -> TextTokenizer:
        """That of `--vocab`, or the one that comes with doctune."""
        folder = self.scratch / "tokenizer"
        if not (folder / "vocab.txt").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            text = (self.vocab or MINI_FOLDER / "vocab.txt").read_text(encoding="utf-8")
            (folder / "vocab.txt").write_text(text, encoding="utf-8")
        return TextTokenizer.load(folder)

    def bert(self, size: tuple[int, int], positions: int = 512, spread: float = 0.02) -> Path:
        """The folder of a BERT of random weights with this standard deviation, made when it is asked for first."""
        layers, hidden = size
        folder = self.scratch / f"bert-{layers}x{hidden}-{positions}-{spread:.3f}"
        if not (folder / "tokenizer.json").is_file():
            head = min(self.sizes.head_size, hidden)
            config = bert_config(self.sizes.vocab_size, layers, hidden, positions, head)
            config.initializer_range = spread
            new_bert(folder, config, self.seed)
            self.tokenizer().save(folder)
        return folder

    def other(self, kind: str, **config: Any) -> Path:
        """The folder of an encoder of random weights of another family, of which a section has one."""
        from transformers import AutoConfig, AutoModel
        from transformers.utils import logging

        folder = self.scratch / f"{kind}-{self.section}"
        if not (folder / "tokenizer.json").is_file():
            logging.disable_progress_bar()
            torch.manual_seed(self.seed)
            AutoModel.from_config(AutoConfig.for_model(kind, **config)).save_pretrained(folder)
            self.tokenizer().save(folder)
        return folder


def _plain(value: Any) -> Any:
    """Figures as JSON can have them: a number that is not finite becomes its name."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def corpus(bench: Bench) -> Shard:
    """Documents in sentences: the texts that were given, or random ids as frequent as words are, of 100 on average."""
    tokenizer = bench.tokenizer()
    if bench.texts is not None:
        documents = [SENTENCE_END.split(text) for text in read_texts(bench.texts, bench.sizes.corpus)]
        sentences = [tokenizer.encode(document) for document in documents]
        kept = [[ids for ids in document if len(ids)] for document in sentences]
        parts = [ids for document in kept for ids in document]
        lengths, counts = [len(ids) for ids in parts], [len(document) for document in kept if document]
        return Shard(np.concatenate(parts).astype(np.int32), _bounds(lengths), _bounds(counts))
    random = np.random.default_rng(bench.seed)
    wanted = lengths_like(random, bench.sizes.corpus, 100, 8, 512)
    counts = [max(round(length / SENTENCE_MEAN), 1) for length in wanted]
    parts = [part for n, k in zip(wanted, counts, strict=True) for part in np.array_split(np.arange(n), k)]
    return Shard(_frequent(random, int(wanted.sum()), tokenizer.size), _bounds(list(map(len, parts))), _bounds(counts))


def _bounds(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _frequent(random: np.random.Generator, number: int, size: int) -> np.ndarray:
    """Ids below `size` but for the lowest, each about as frequent as Zipf's law has it of words."""
    return (5 + np.exp(random.random(number) * np.log(size - 6))).astype(np.int32)


def lengths_like(random: np.random.Generator, number: int, mean: float, least: int, most: int) -> np.ndarray:
    """Log-normal lengths with about this mean; their logarithm spreads by 0.5, as that of news does."""
    drawn = random.lognormal(np.log(mean) - 0.125, 0.5, number)
    return np.clip(drawn, least, most).astype(np.int64)


def read_texts(path: Path, number: int) -> list[str]:
    """The first texts of a file: the columns of a CSV behind the label as one (AG's News), or a text a line."""
    with open_text(path, newline="") as lines:
        csv_file = ".csv" in path.suffixes
        rows = (" ".join(row[1:]).replace("\\", " ") for row in csv.reader(lines)) if csv_file else lines
        found = (text.strip() for text in rows)
        return [text for text, _ in zip((text for text in found if text), range(number), strict=False)]


def labelled(bench: Bench, number: int, mean: float, most: int) -> Dataset:
    """Documents to classify: the texts that were given, again and again, or random words of such lengths."""
    tokenizer = bench.tokenizer()
    if bench.texts is not None:
        read = read_texts(bench.texts, number)
        texts = [read[place % len(read)] for place in range(number)]
    else:
        texts = random_texts(tokenizer, number, mean, most, bench.seed)
    examples = [Example(str(place), text, LABELS[place % len(LABELS)]) for place, text in enumerate(texts)]
    shard = build_shard(examples, tokenizer, bench.scratch / "shards", "train", show_progress=False).shard
    return make_dataset("train", shard, SingleTarget(LABELS))


def random_texts(tokenizer: TextTokenizer, number: int, mean: float, most: int, seed: int) -> list[str]:
    """Texts of words that are one token each; mean and most tokens are with the two special ones."""
    words = [word for word in tokenizer.tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2]
    single = np.array(sorted(word for word, ids in zip(words, tokenizer.encode(words), strict=True) if len(ids) == 1))
    random = np.random.default_rng(seed)
    lengths = lengths_like(random, number, mean, 5, most) - 2
    drawn = np.split(single[_frequent(random, int(lengths.sum()), len(single))], np.cumsum(lengths)[:-1])
    return [" ".join(words) for words in drawn]


def collator_of(bench: Bench, max_seq_len: int, truncation: str = "head-only") -> Any:
    """The collator of a fine-tuning with these settings."""
    return make_collator(
        bench.tokenizer(),
        TruncationSettings(truncation=truncation, max_seq_len=max_seq_len),
    )

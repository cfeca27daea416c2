"""A step of further pre-training, masked words and next sentence: doctune's loop beside BertForPreTraining.

    python benchmarks/pretraining_step.py --texts imdb:data/imdb:test       a corpus is made of these texts first
    python benchmarks/pretraining_step.py --corpus corpora/reviews          a corpus of `doctune corpus`

Both have the same weights and get the very same masked sequences. doctune makes its own as it goes, within its time,
and takes its defaults: packed, logits of the masked tokens only, AdamW, clipping, dropout of hidden states as the
config has it and none of attention, bf16 where the processor has it. The peer is transformers' class in a plain PyTorch
loop: batches that are padded to their longest and ready before the clock starts, logits of all tokens, fp32, AdamW,
clipping, dropout as the config has it. First of all both must give the same losses and gradient, without dropout and in
fp32. Short documents make short sequences: news of 50 tokens give pairs of 65.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import torch
from finetuning import OurLoop, shares
from measure import RoundFeed, Way, Work
from torch.nn.functional import cross_entropy

from doctune import seeding
from doctune.batches.sequences import Recipe, SequenceFeed, hold_out
from doctune.encoders.resolve import resolve_encoder
from doctune.models.pretrained_folder import save_pretrained
from doctune.models.pretraining import PretrainingLoaded, load_pretraining
from doctune.runs import corpus as corpora
from doctune.settings import CorpusSettings, EncoderSettings, LayerwiseSettings, MaskingSettings, PairSettings
from doctune.store.corpus import Corpus
from doctune.tensors import MaskedBatch
from doctune.text.tokenizer import TextTokenizer
from doctune.training.layerwise import parameter_groups

RATE, WEIGHT_DECAY = 5e-5, 0.01
NOTHING = -100  # what transformers leaves out of the loss
WAYS = ("doctune", "transformers", "doctune-no-dropout")
MORE_WAYS = ("doctune-fp32", "transformers-bf16")


@dataclass(frozen=True)
class Sequences:
    """The same masked sequences for every way: `steps` batches in a round."""

    corpus: Corpus
    recipe: Recipe
    batch_size: int
    steps: int
    rounds: int
    seed: int

    def feed(self, steps: int | None = None) -> RoundFeed:
        """doctune's own feed, which makes pairs and masks as it goes, from its beginning."""
        shards = self.corpus.shards
        chosen, _ = hold_out(shards, self.corpus.weights.tolist(), 0, self.seed)
        inner = SequenceFeed(shards, chosen, self.recipe, self.seed, self.batch_size)
        return RoundFeed(inner, steps or self.steps)

    def batches(self) -> list[list[MaskedBatch]]:
        """The batches of every round, for the peers and for counting."""
        feed = self.feed(self.rounds * self.steps)
        made = [batch for step in range(feed.steps) for batch in feed.window(step, 0.0)]
        return [made[start : start + self.steps] for start in range(0, len(made), self.steps)]


def make_corpus(texts: str, encoder: str, folder: Path) -> Corpus:
    """What `doctune corpus TEXTS --encoder ENCODER` makes."""
    settings = CorpusSettings.build({"output": str(folder), "encoder": encoder, "sources": [texts]})
    return corpora.run(settings)


def load(encoder: Path, seed: int, dropout: float | None = None) -> PretrainingLoaded:
    """Encoder and heads; those that the folder lacks are the same for the same seed."""
    torch.manual_seed(seeding.derive(seed, "new layers"))
    return load_pretraining(encoder, EncoderSettings(encoder=str(encoder), dropout=dropout), "nsp")


def our_way(
    encoder: Path, sequences: Sequences, folder: Path, precision: str = "auto", dropout: float | None = None,
    steps: int | None = None,
) -> OurLoop:  # fmt: skip
    """The loop of `doctune pretrain` with its defaults."""
    model = load(encoder, sequences.seed, dropout).model
    groups, _ = parameter_groups(model, RATE, WEIGHT_DECAY, LayerwiseSettings(layerwise="none"))
    return OurLoop(model, groups, sequences.feed(steps), folder, precision, sequences.seed, clips_per_tensor=False)


def peer_model(folder: Path, **config: Any) -> Any:
    """transformers' own class with the same weights."""
    from transformers import BertForPreTraining
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return BertForPreTraining.from_pretrained(folder, dtype=torch.float32, **config)


def padded(batch: MaskedBatch) -> dict[str, torch.Tensor]:
    """A packed batch as the input of BertForPreTraining."""
    lengths = torch.tensor(batch.lengths)
    real = torch.arange(batch.max_seqlen) < lengths.unsqueeze(1)
    labels = torch.full_like(batch.input_ids, NOTHING)
    labels[batch.masked_positions] = batch.masked_labels
    rows = {"input_ids": (batch.input_ids, 0), "token_type_ids": (batch.token_type_ids, 0), "labels": (labels, NOTHING)}
    made = {name: torch.full(real.shape, empty).masked_scatter(real, row) for name, (row, empty) in rows.items()}
    assert batch.pair_labels is not None
    return {**made, "attention_mask": real.long(), "next_sentence_label": batch.pair_labels}


def peer_way(folder: Path, rounds: list[list[MaskedBatch]], bf16: bool = False) -> Way:
    """A plain loop; its batches are ready."""
    model = peer_model(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    ready = [[padded(batch) for batch in batches] for batches in rounds]

    def way(number: int) -> None:
        torch.manual_seed(number)
        for batch in ready[number]:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return way


def gate(
    encoder: Path, peers: Path, sequences: Sequences, batch: MaskedBatch, scratch: Path
) -> dict[str, dict[str, float]]:
    """Losses and gradient of the first batch in doctune's loop and in BertForPreTraining, without dropout."""
    ours = our_way(encoder, sequences, scratch, "fp32", 0.0, 1).first_step()
    inputs, model = padded(batch), peer_model(peers).eval()  # no dropout, and the gradients are the same
    found = model(**inputs)
    found.loss.backward()
    words = cross_entropy(found.prediction_logits.flatten(0, 1), inputs["labels"].flatten(), ignore_index=NOTHING)
    pairs = cross_entropy(found.seq_relationship_logits, inputs["next_sentence_label"])
    norm = measure.gradient_norm(model.parameters())
    theirs = {"loss": found.loss.item(), "mlm": words.item(), "pair": pairs.item(), "gradient_norm": norm}
    return measure.check_equal({name: ours[name] for name in theirs}, theirs)


def count_work(rounds: list[list[MaskedBatch]], shape: measure.Shape, steps: int) -> Work:
    """Sequences, tokens and FLOPs of the rounds that count; the logits of masked words included."""
    work = Work("step", steps)
    for batches in rounds:
        lengths = [length for batch in batches for length in batch.lengths]
        read = [rows for batch in batches for rows in rows_read(batch)]
        masked = sum(len(batch.masked_positions) for batch in batches)
        whole = measure.encoder_flops(shape, lengths) + measure.words_flops(shape, sum(lengths))
        needed = measure.encoder_flops(shape, lengths, read) + measure.words_flops(shape, masked)
        work.add(lengths, whole, needed)
    return work


def rows_read(batch: MaskedBatch) -> list[int]:
    """How many rows of each sequence the heads read: [CLS] and the masked tokens."""
    sequence = torch.searchsorted(batch.cu_seqlens, batch.masked_positions, right=True) - 1
    counts: list[int] = (torch.bincount(sequence, minlength=len(batch.lengths)) + 1).tolist()
    return counts


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", type=Path, help="a corpus made by doctune corpus with the encoder's tokenizer")
    source.add_argument("--texts", help="a source as doctune corpus takes it: a file, a folder, or NAME:FOLDER:SPLIT")
    parser.add_argument("--encoder", default="minilm", help="name or folder of a BERT (default: %(default)s)")
    parser.add_argument("--sequence-len", type=int, default=128, help="longest sequence (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="sequences in a step (default: %(default)s)")
    parser.add_argument("--steps-per-round", type=int, default=4, help="steps of each way (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, *MORE_WAYS), default=WAYS, metavar="WAY",
                        help=f"what to time: {', '.join((*WAYS, *MORE_WAYS))} (default: the first three)")  # fmt: skip
    measure.add_common(parser, 5)
    given = parser.parse_args()
    if "doctune" not in given.ways:
        given.ways = ["doctune", *given.ways]
    return given


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="doctune-benchmark-") as made:
        scratch, encoder = Path(made), resolve_encoder(given.encoder)
        corpus = (
            Corpus.open(given.corpus) if given.corpus else make_corpus(given.texts, given.encoder, scratch / "corpus")
        )
        tokenizer = corpus.tokenizer()
        if tokenizer.hash != TextTokenizer.load(encoder).hash:
            measure.fail(f"the corpus was made with another tokenizer than that of {given.encoder}")
        recipe = Recipe(
            PairSettings(sequence_len=given.sequence_len), MaskingSettings(), tokenizer.template, tokenizer.mask_id,
            tokenizer.size,
        )  # fmt: skip
        sequences = Sequences(
            corpus, recipe, given.batch_size, given.steps_per_round, given.warmup + given.rounds, given.seed
        )
        batches = sequences.batches()
        loaded = load(encoder, given.seed)
        if loaded.config.model_type != "bert":
            measure.fail(f"{given.encoder} is of {loaded.config.model_type}; only a BERT has a BertForPreTraining")
        save_pretrained(loaded.model, loaded.config, tokenizer, {}, None, scratch / "peers")
        peers, shape = scratch / "peers", measure.Shape.of(loaded.model.encoder.config)
        equal = gate(encoder, peers, sequences, batches[0][0], scratch / "gate")
        makers: dict[str, Callable[[Path], Way]] = {
            "doctune": lambda place: our_way(encoder, sequences, place),
            "doctune-no-dropout": lambda place: our_way(encoder, sequences, place, dropout=0.0),
            "doctune-fp32": lambda place: our_way(encoder, sequences, place, "fp32"),
            "transformers": lambda place: peer_way(peers, batches),
            "transformers-bf16": lambda place: peer_way(peers, batches, bf16=True),
        }
        ways = {name: makers[name](scratch / name) for name in given.ways}
        rates = measure.Rates()
        rates.measure()
        seconds = measure.interleaved(ways, given.rounds, given.warmup)
        rates.measure()
        ours = ways["doctune"]
        assert isinstance(ours, OurLoop)
        precisions = {name: "bf16" if name.endswith("bf16") else "fp32" for name in ways}
        precisions |= {name: ours.device.precision for name in ("doctune", "doctune-no-dropout")}
        work = count_work(batches[given.warmup :], shape, given.steps_per_round)
        facts = {"gate": equal, "shares of a step": shares(ours, seconds), **settings_of(given, work, batches)}
        measure.report("pretraining_step", seconds, work, precisions, rates, facts, given.output)


def settings_of(given: argparse.Namespace, work: Work, batches: list[list[MaskedBatch]]) -> dict[str, Any]:
    """What was asked for, and what the sequences are like."""
    names = ("sequence_len", "batch_size", "steps_per_round", "rounds", "warmup", "seed")
    masked = sum(len(batch.masked_positions) for part in batches[given.warmup :] for batch in part)
    return {
        "settings": {name: getattr(given, name) for name in names} | {"encoder": Path(given.encoder).name},
        "mean_length": sum(work.tokens) / sum(work.examples),
        "masked_share": masked / sum(work.tokens),
    }


if __name__ == "__main__":
    measure.run(main)

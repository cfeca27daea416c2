"""Prediction from raw text: doctune beside transformers' pipeline and ONNX Runtime with int8 weights.

    python benchmarks/prediction.py --texts imdb:data/imdb:test ag_news:data/ag_news:test
    python benchmarks/prediction.py --texts reviews.jsonl --model runs/reviews

Documents of all sources in equal parts, mixed, cut off at --max-seq-len tokens; tokenising is timed in every way. The
classifier is that of a run of `doctune finetune --token-pooling pooler`, which transformers loads as its own, or one
made here: an encoder with a random head. The ways (`--ways`):

    doctune        predict_proba of doctune.load with its defaults: sorted by length, packed, bf16 where the processor
                   has it
    doctune-fp32   the same in fp32
    pipeline       transformers' pipeline("text-classification") in batches of 32, truncated, fp32
    onnx-int8      ONNX Runtime, 8-bit weights by dynamic quantisation, batches of 32 sorted by length and padded to
                   their longest, all cores, all graph optimisations; the fastest of four graphs: as exported, or with
                   attention fused by ONNX Runtime's optimiser for BERT, each with scales by tensor or by channel
    onnx-fp32      the same without quantisation; the faster of the two graphs

Labels of the ways in fp32 must agree with doctune's on 99 % of the documents; int8 only has its agreement told. The
labels of a random head lie close together, so agreement is hard there; a trained model's do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import measure
import numpy as np
import numpy.typing as npt
import torch
from finetuning import peer_model, save_for_peers
from measure import Rates, Work

from doctune import seeding
from doctune.batches.collate import make_collator
from doctune.classifier.folder import is_standard
from doctune.classifier.predictor import Predictor, load
from doctune.encoders.resolve import resolve_encoder
from doctune.readers.documents import open_documents
from doctune.settings import ReadingSettings, TruncationSettings
from doctune.text.tokenizer import TextTokenizer

BATCH = 32
AGREEMENT = 0.99
TRIED, LENGTH_TRIED = 5, 128
WAYS = ("doctune", "pipeline", "onnx-int8")
MORE_WAYS = ("doctune-fp32", "onnx-fp32")
Labels = list[str]
Predict = Callable[[], Labels]
OPSET = 17
FLOAT = 1  # onnx.TensorProto.FLOAT


def read_texts(sources: Sequence[str], number: int, seed: int) -> Labels:
    """So many documents at random, from each source as many, mixed."""
    chosen: list[str] = []
    for place, source in enumerate(sources):
        texts = [example.text for part in open_documents(source, ReadingSettings()) for example in part.read()]
        texts = [text for text in texts if text.strip()]
        order = seeding.generator(seed, "documents", place).permutation(len(texts))
        chosen += [texts[i] for i in order[: number // len(sources)]]
    return [chosen[i] for i in seeding.generator(seed, "mixed").permutation(len(chosen))]


def ours(folder: Path, max_seq_len: int, precision: str) -> Predictor:
    """What `doctune.load` gives, cutting texts off where the peers do."""
    predictor = load(folder, "cpu", precision)  # type: ignore[arg-type]
    if not is_standard(predictor.model):
        measure.fail(f"{folder.name}: transformers' own classifier is not this one; train with --token-pooling pooler")
    truncation = TruncationSettings(truncation="head-only", max_seq_len=max_seq_len)
    return dataclasses.replace(predictor, collator=make_collator(predictor.tokenizer, truncation))


def pipeline_way(folder: Path, texts: Labels, max_seq_len: int) -> Predict:
    """transformers' pipeline."""
    from transformers import pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    classify = pipeline("text-classification", model=str(folder), device="cpu", dtype=torch.float32)

    def way() -> Labels:
        found = classify(texts, batch_size=BATCH, truncation=True, max_length=max_seq_len)
        return [str(one["label"]) for one in found]

    return way


class Onnx:
    """The classifier as graphs of ONNX Runtime, and prediction with one of them."""

    def __init__(self, folder: Path, scratch: Path, max_seq_len: int) -> None:
        for module in ("onnx", "onnxruntime", "onnxruntime.quantization"):
            measure.need(module)
        from tokenizers import Tokenizer
        from transformers import AutoConfig

        self.scratch, self.config = scratch, AutoConfig.from_pretrained(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(max_seq_len)
        self.names = [self.config.id2label[i] for i in range(self.config.num_labels)]
        scratch.mkdir(exist_ok=True)
        self.graphs = {"as exported": self._export(folder), "attention fused": self._fused()}

    def _export(self, folder: Path) -> Path:
        # Attention written out, which ONNX Runtime's optimiser knows.
        model = peer_model(folder, attn_implementation="eager")
        ids = torch.randint(5, self.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[1, 10:] = 0
        axes = {0: "documents", 1: "tokens"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model.eval(), (ids, mask), str(self.scratch / "exported.onnx"), dynamo=False, opset_version=OPSET,
                input_names=["input_ids", "attention_mask"], output_names=["logits"],
                dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "documents"}},
            )  # fmt: skip
        return self.scratch / "exported.onnx"

    def _fused(self) -> Path:
        from onnxruntime.transformers import optimizer

        made = optimizer.optimize_model(
            str(self.scratch / "exported.onnx"), model_type="bert", num_heads=self.config.num_attention_heads,
            hidden_size=self.config.hidden_size, opt_level=0,
        )  # fmt: skip
        made.save_model_to_file(str(self.scratch / "fused.onnx"))
        return self.scratch / "fused.onnx"

    def quantised(self) -> dict[str, Path]:
        """Every graph with 8-bit weights, with scales by tensor and by channel."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        logging.getLogger().setLevel(logging.ERROR)  # it advises pre-processing, with which nothing was faster
        made = {}
        for name, graph in self.graphs.items():
            for scales in ("by tensor", "by channel"):
                path = graph.with_name(f"{graph.stem} {scales}.onnx")
                quantize_dynamic(
                    graph, path, per_channel=scales == "by channel", weight_type=QuantType.QInt8,
                    extra_options={"DefaultTensorType": FLOAT, "MatMulConstBOnly": True},
                )  # fmt: skip
                made[f"{name}, scales {scales}"] = path
        return made

    def session(self, graph: Path) -> Any:
        """A graph ready to run, on all cores and with all optimisations."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def fastest(self, graphs: dict[str, Path]) -> tuple[dict[str, float], Any]:
        """The seconds that each graph takes for a batch, the best of some tries in turn; the session of the fastest."""
        sessions = {name: self.session(graph) for name, graph in graphs.items()}
        random = np.random.default_rng(0)
        ids = random.integers(5, self.config.vocab_size, (BATCH, LENGTH_TRIED))
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        best = dict.fromkeys(sessions, float("inf"))
        for _ in range(TRIED):
            for name, session in sessions.items():
                best[name] = min(best[name], measure.timed(lambda session=session: session.run(None, inputs)))
        return best, sessions[min(best, key=lambda name: best[name])]

    def way(self, session: Any, texts: Labels) -> Predict:
        """Prediction of raw texts with a session."""

        def way() -> Labels:
            sequences = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
            order = sorted(range(len(sequences)), key=lambda place: -len(sequences[place]))
            found = np.zeros(len(texts), np.int64)
            for start in range(0, len(order), BATCH):
                places = order[start : start + BATCH]
                ids, mask = _padded([sequences[place] for place in places])
                (logits,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
                found[places] = logits.argmax(axis=1)
            return [self.names[place] for place in found]

        return way


def _padded(sequences: list[list[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    ids = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
    mask = np.zeros_like(ids)
    for place, sequence in enumerate(sequences):
        ids[place, : len(sequence)] = sequence
        mask[place, : len(sequence)] = 1
    return ids, mask


def make_ways(names: Sequence[str], folder: Path, texts: Labels, max_seq_len: int, scratch: Path) -> dict[str, Any]:
    """The ways by name, their precisions, and how long a batch took with each of ONNX Runtime's graphs."""
    ways: dict[str, Predict] = {}
    precisions: dict[str, str] = {}
    tried: dict[str, dict[str, float]] = {}
    onnx = Onnx(folder, scratch / "onnx", max_seq_len) if any(name.startswith("onnx") for name in names) else None
    for name in names:
        precisions[name] = "fp32"
        if name.startswith("doctune"):
            predictor = ours(folder, max_seq_len, "fp32" if name.endswith("fp32") else "auto")
            precisions[name] = predictor.device.precision
            ways[name] = lambda predictor=predictor: predictor.predict(texts)
        elif name == "pipeline":
            ways[name] = pipeline_way(folder, texts, max_seq_len)
        else:
            assert onnx is not None
            tried[name], session = onnx.fastest(onnx.quantised() if name == "onnx-int8" else onnx.graphs)
            ways[name] = onnx.way(session, texts)
    return {"ways": ways, "precisions": precisions, "graphs": tried}


def gate(ways: dict[str, Predict]) -> dict[str, float]:
    """Share of the documents with doctune's label, by way; ends the program where one in fp32 disagrees."""
    labels = {name: np.array(way()) for name, way in ways.items()}
    agree = {name: float(np.mean(found == labels["doctune"])) for name, found in labels.items()}
    for name, share in agree.items():
        if name != "onnx-int8" and share < AGREEMENT:
            measure.fail(f"{name}: only {100 * share:.1f} % of the labels are doctune's, so nothing is timed")
    return {name: share for name, share in agree.items() if name != "doctune"}


def count_work(predictor: Predictor, texts: Labels, config: Any, rounds: int) -> Work:
    """Documents, tokens and FLOPs of a forward pass over them, the same in every round."""
    most, special = predictor.collator.max_seq_len, predictor.tokenizer.template.special_tokens(False)
    lengths = [min(len(ids) + special, most) for ids in predictor.tokenizer.encode(texts)]
    shape, work = measure.Shape.of(config), Work("run", 1)
    for _ in range(rounds):
        whole = measure.encoder_flops(shape, lengths, passes=1)
        work.add(lengths, whole, measure.encoder_flops(shape, lengths, [1] * len(lengths), passes=1))
    return work


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", required=True, metavar="SOURCE",
                        help="files, folders, or NAME:FOLDER:SPLIT of known data sets")  # fmt: skip
    parser.add_argument("--number", type=int, default=512, help="documents in all (default: %(default)s)")
    parser.add_argument("--max-seq-len", type=int, default=256, help="longest sequence (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="a run of doctune finetune, or its model folder")
    parser.add_argument("--encoder", default="minilm", help="without --model: its encoder (default: %(default)s)")
    parser.add_argument("--num-labels", type=int, default=2, help="without --model: classes (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, *MORE_WAYS), default=WAYS, metavar="WAY",
                        help=f"what to time: {', '.join((*WAYS, *MORE_WAYS))} (default: the first three)")  # fmt: skip
    measure.add_common(parser, 5)
    given = parser.parse_args()
    given.ways = list(dict.fromkeys(["doctune", *given.ways]))
    return given


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="doctune-benchmark-") as made:
        scratch = Path(made)
        texts = read_texts(given.texts, given.number, given.seed)
        folder, made_here = given.model, given.model is None
        if made_here:
            encoder, names = resolve_encoder(given.encoder), tuple(f"class {i}" for i in range(given.num_labels))
            truncation = TruncationSettings(truncation="head-only", max_seq_len=given.max_seq_len)
            tokenizer = TextTokenizer.load(encoder)
            folder = save_for_peers(encoder, names, tokenizer, truncation, given.seed, scratch / "model")
        elif (folder / "model").is_dir():
            folder = folder / "model"
        ready = make_ways(given.ways, folder, texts, given.max_seq_len, scratch)
        agree = gate(ready["ways"])
        rates = Rates()
        rates.measure()
        ways = {name: lambda _, way=way: measure.timed(way) for name, way in ready["ways"].items()}
        seconds = measure.interleaved(ways, given.rounds, given.warmup)
        rates.measure()
        predictor = ours(folder, given.max_seq_len, "auto")
        work = count_work(predictor, texts, predictor.model.encoder.config, given.rounds)
        settings = {name: getattr(given, name) for name in ("number", "max_seq_len", "rounds", "warmup", "seed")}
        model = f"{Path(given.encoder).name} with a random head" if made_here else given.model.name
        facts = {
            "share of doctune's labels": agree, "seconds of a batch by graph": ready["graphs"],
            "settings": settings | {"model": model},
            "mean_length": sum(work.tokens) / sum(work.examples),
        }  # fmt: skip
        measure.report("prediction", seconds, work, ready["precisions"], rates, facts, given.output)


if __name__ == "__main__":
    measure.run(main)

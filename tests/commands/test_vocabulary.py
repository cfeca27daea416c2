"""`--add-pieces` and `--new-vocabulary`, from documents to a classifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.processors import RobertaProcessing
from transformers import AutoModelForMaskedLM, AutoTokenizer

from doctune.models.pretrained_folder import FACTS
from doctune.store.corpus import Corpus
from doctune.text.tokenizer import TextTokenizer

Cli = Callable[..., Any]
SMALL = ["--sequence-len", "32", "--batch-size", "4", "--precision", "fp32", "--held-out", "4", "--head-warmup", "0"]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Documents with words that the tiny encoder breaks."""
    texts = [f"The slapstick {i} was hilarious. I like unfunny films and the food. He was not." for i in range(40)]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path / "reviews.jsonl"


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    """A folder with a tokenizer of RoBERTa's kind."""
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(["the cat sat"], special_tokens=["<s>", "</s>", "<unk>", "<mask>"], show_progress=False)
    tokenizer: Tokenizer = made._tokenizer
    tokenizer.post_processor = RobertaProcessing(("</s>", 1), ("<s>", 0))
    (tmp_path / "byte-level").mkdir()
    tokenizer.save(str(tmp_path / "byte-level" / "tokenizer.json"))
    return tmp_path / "byte-level"


def test_new_pieces_from_documents_to_a_classifier(
    cli: Cli, reviews: Path, tiny_encoder: Path, tiny_csv: Callable[..., Path], tmp_path: Path
) -> None:
    done = cli("corpus", reviews, "--encoder", tiny_encoder, "--add-pieces", 3, "--output", tmp_path / "c")
    assert done.code == 0, done.err
    old = TextTokenizer.load(tiny_encoder)
    assert f"3 new pieces, {old.size + 3} in all: hilarious, slapstick, unfunny" in done.out
    assert "pieces a word: " in done.out

    run = ["pretrain", "--corpus", tmp_path / "c", "--encoder", tiny_encoder, *SMALL, "--output", tmp_path / "run"]
    dry = cli(*run, "--steps", 5, "--dry-run")
    assert "# vocabulary: 3 new pieces" in dry.out, dry.err
    done = cli(*run, "--steps", 5)
    assert done.code == 0, done.err
    assert "vocabulary: 3 new pieces, each starts as the mean of its old ones" in done.err
    model = tmp_path / "run" / "model"
    facts = json.loads((model / FACTS).read_text())
    assert facts["new_pieces"] == 3
    record = facts["corpus"]["vocabulary"]
    assert record["first"] == ["hilarious", "slapstick", "unfunny"]
    assert record["after"]["pieces_per_word"] < record["before"]["pieces_per_word"]

    theirs, info = AutoModelForMaskedLM.from_pretrained(model, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert theirs.config.vocab_size == theirs.get_output_embeddings().weight.shape[0] == old.size + 3
    tokens = AutoTokenizer.from_pretrained(model)("Slapstick was hilarious")["input_ids"]
    assert tokens[1] == old.size + 1
    assert tokens[3] == old.size
    assert len(tokens) == 5

    train = tiny_csv()
    done = cli("finetune", "--train", train, "--encoder", model, "--output", tmp_path / "classifier", "--epochs", 1)
    assert done.code == 0, done.err


def test_a_run_with_new_pieces_goes_on(cli: Cli, reviews: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    cli("corpus", reviews, "--encoder", tiny_encoder, "--add-pieces", 3, "--output", tmp_path / "c")
    run = ["pretrain", "--corpus", tmp_path / "c", "--encoder", tiny_encoder, *SMALL, "--schedule", "constant"]
    run += ["--warmup", 0, "--checkpoint-minutes", 0, "--evaluations", 1]
    assert cli(*run, "--steps", 8, "--output", tmp_path / "whole").code == 0
    assert cli(*run, "--steps", 4, "--output", tmp_path / "parts").code == 0
    done = cli(*run, "--steps", 8, "--output", tmp_path / "parts", "--resume")
    assert done.code == 0, done.err
    whole, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_pieces_are_added_a_second_time(cli: Cli, reviews: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    start = tiny_encoder
    for number in (1, 2):
        corpus, run = tmp_path / f"c{number}", tmp_path / f"run{number}"
        done = cli("corpus", reviews, "--encoder", start, "--add-pieces", 1, "--output", corpus)
        assert done.code == 0, done.err
        done = cli("pretrain", "--corpus", corpus, "--encoder", start, *SMALL, "--steps", 2, "--output", run)
        assert done.code == 0, done.err
        start = run / "model"
    assert TextTokenizer.load(start).size == TextTokenizer.load(tiny_encoder).size + 2
    refused = cli("pretrain", "--corpus", tmp_path / "c1", "--encoder", start, *SMALL, "--output", tmp_path / "no")
    assert "was made with another tokenizer" in refused.error


def test_from_scratch_with_a_vocabulary_of_its_own(cli: Cli, tiny_csv: Callable[..., Path], tmp_path: Path) -> None:
    """Another language: Chinese characters are pieces, and capital letters are kept where that is asked for."""
    characters = "价格很好电影不是音乐人们喜欢这个那么多书"
    texts = [f"{characters[i % 9 :]}。{characters[: 5 + i % 7]}，Film Ä{i}。" for i in range(60)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    vocabularies = []
    for workers in (1, 2):
        folder = tmp_path / f"c{workers}"
        done = cli(
            "corpus", tmp_path / "t.jsonl", "--new-vocabulary", 120, "--cased", "--output", folder,
            "--workers", workers, "--shard-bytes", 1000, "--name", "c",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "vocabulary: " in done.out
        vocabularies.append((folder / "tokenizer.json").read_bytes())
    assert vocabularies[0] == vocabularies[1]
    corpus = Corpus.open(tmp_path / "c1")
    known = corpus.tokenizer().tokenizer.get_vocab()
    assert set(characters) | {"Film", "Ä", "。"} <= set(known)
    unknown = known["[UNK]"]
    assert not any((shard.input_ids == unknown).any() for shard in corpus.shards)

    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                                  "intermediate_size": 64, "max_position_embeddings": 64}))  # fmt: skip
    done = cli(
        "pretrain", "--corpus", tmp_path / "c1", "--from-scratch", config, *SMALL[:-2], "--steps", 5,
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    model = tmp_path / "run" / "model"
    ids = AutoTokenizer.from_pretrained(model)("电影Film")["input_ids"]
    assert ids[1:-1] == [known["电"], known["影"], known["Film"]]
    facts = json.loads((model / FACTS).read_text())
    assert facts["new_pieces"] == 0
    assert facts["corpus"]["vocabulary"]["kind"] == "new"
    done = cli("finetune", "--train", tiny_csv(), "--encoder", model, "--output", tmp_path / "f", "--max-seq-len", 32)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --encoder DIR_OR_ID, whose vocabulary is used, or --new-vocabulary SIZE"),
        (["--encoder", "TINY", "--new-vocabulary", "500"], "give either --encoder DIR_OR_ID"),
        (["--new-vocabulary", "500", "--add-pieces", "5"], "--add-pieces is for the vocabulary of an --encoder"),
        (["--new-vocabulary", "50"], "new_vocabulary: give --new-vocabulary a whole number from 100, found '50'"),
        (["--encoder", "TINY", "--cased"], "--cased is for --new-vocabulary"),
        (["--encoder", "TINY", "--add-pieces", "0"], "add_pieces: give --add-pieces a whole number from 1"),
        (
            ["--encoder", "BYTES", "--add-pieces", "5"],
            "is of kind BPE; words are added to BERT's kind (WordPiece) only",
        ),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(
    cli: Cli, reviews: Path, tiny_encoder: Path, byte_level: Path, tmp_path: Path, arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    folders = {"TINY": str(tiny_encoder), "BYTES": str(byte_level)}
    done = cli("corpus", reviews, *(folders.get(word, word) for word in arguments), "--output", tmp_path / "c")
    assert message in done.error
    assert not (tmp_path / "c").exists()

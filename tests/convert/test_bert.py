"""Conversion: the same numbers as transformers and TensorFlow compute, and bit-equal there and back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertForPreTraining

from doctune.convert.bert import Converted, to_tensorflow, to_transformers
from doctune.convert.bundle import Bundle
from doctune.convert.configs import dump
from doctune.convert.sources import find_checkpoint
from doctune.errors import CheckpointError
from doctune.text.tokenizer import TextTokenizer

NAME = "bert_model.ckpt"
HARMLESS = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}
Make = Callable[..., Path]


def converted(source: Path, folder: Path, lower: bool | None = None) -> Converted:
    folder.mkdir()
    return to_transformers(find_checkpoint(source), None, None, lower, folder)


def back(source: Path, folder: Path, vocab: Path | None = None) -> Converted:
    folder.mkdir()
    return to_tensorflow(source, vocab, folder)


def load(kind: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    return model.eval(), info


def variables(folder: Path) -> dict[str, np.ndarray]:
    bundle = Bundle(find_checkpoint(folder))
    bundle.verify()
    return {name: np.array(bundle.read(name)) for name in bundle.entries}


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert (value.dtype, value.shape) == (second[name].dtype, second[name].shape)
        assert value.tobytes() == second[name].tobytes(), name


def test_golden_weights_are_equal_and_outputs_too(golden: Path, tmp_path: Path) -> None:
    expected = load_file(golden / "tf1_checkpoint" / "expected.safetensors")
    summary = converted(golden / "tf1_checkpoint", tmp_path / "hf")
    assert summary.architecture == "BertForPreTraining"
    assert len(summary.optimizers) == 125
    assert_equal(tensors(tmp_path / "hf"), {n: v for n, v in expected.items() if n.startswith(("bert.", "cls."))})
    model, info = load(BertForPreTraining, tmp_path / "hf")
    assert info == HARMLESS
    batch = {name.removeprefix("batch."): torch.from_numpy(v) for name, v in expected.items() if "batch." in name}
    with torch.no_grad():
        inputs = (batch["input_ids"], batch["input_mask"], batch["segment_ids"])
        hidden, pooled = model.bert(*inputs, return_dict=False)[:2]
        words, pairs = model(*inputs, return_dict=False)[:2]
    for name, value in (("last_hidden_state", hidden), ("pooled_output", pooled), ("mlm_logits", words)):
        np.testing.assert_allclose(value.numpy(), expected[f"out.{name}"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(pairs.numpy(), expected["out.nsp_logits"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(pooled.numpy(), expected["tf.pooled_output"], atol=1e-5, rtol=0)
    places = batch["masked_lm_positions"]
    log_probs = words.log_softmax(-1)[torch.arange(len(places))[:, None], places].flatten(0, 1)
    np.testing.assert_allclose(log_probs.numpy(), expected["tf.masked_lm_log_probs"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(pairs.log_softmax(-1).numpy(), expected["tf.next_sentence_log_probs"], atol=1e-5, rtol=0)


def test_two_data_files_give_the_same(golden: Path, tmp_path: Path) -> None:
    folder = golden / "tf1_checkpoint"
    converted(folder, tmp_path / "one")
    (tmp_path / "two").mkdir()
    checkpoint = find_checkpoint(folder / "two_shards" / NAME)
    to_transformers(checkpoint, folder / "bert_config.json", folder / "vocab.txt", None, tmp_path / "two")
    assert_equal(tensors(tmp_path / "one"), tensors(tmp_path / "two"))


@pytest.mark.parametrize("scale", [1, 30])
def test_outputs_of_the_pretraining_fixture(shared: Path, tmp_path: Path, scale: int) -> None:
    """Against TensorFlow's graph; multiplied by 30, a forgotten transpose moves some output by 0.8."""
    source = shared / "models" / "tf1-pretraining-fixture"
    expected = np.load(source / ("golden_outputs.npz" if scale == 1 else "golden_outputs_x30.npz"))
    converted(source, tmp_path / "hf")
    scaled = {name: v * np.float32(scale) if v.ndim > 1 else v for name, v in tensors(tmp_path / "hf").items()}
    save_file(scaled, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    model, info = load(BertForPreTraining, tmp_path / "hf")
    assert info == HARMLESS
    inputs = [torch.from_numpy(expected[n]).long() for n in ("input_ids", "attention_mask", "token_type_ids")]
    places = torch.from_numpy(expected["masked_lm_positions"]).long()
    with torch.no_grad():
        hidden, pooled = model.bert(*inputs, return_dict=False)[:2]
        words, pairs = model(*inputs, return_dict=False)[:2]
    chosen = words[torch.arange(len(places))[:, None], places]
    outputs = {"sequence_output": hidden, "pooled": pooled, "mlm_logits": chosen, "nsp_logits": pairs}
    for name, value in outputs.items():
        np.testing.assert_allclose(value.numpy(), expected[name], atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("name", ["golden/tf1_checkpoint", "models/tf1-pretraining-fixture"])
def test_golden_round_trips_are_bit_equal(shared: Path, tmp_path: Path, name: str) -> None:
    summary = converted(shared / name, tmp_path / "hf")
    back(tmp_path / "hf", tmp_path / "tf1")
    original = variables(shared / name)
    assert_equal(variables(tmp_path / "tf1"), {n: v for n, v in original.items() if n not in summary.optimizers})
    assert (tmp_path / "tf1" / "vocab.txt").read_bytes() == (shared / name / "vocab.txt").read_bytes()
    config = json.loads((shared / name / "bert_config.json").read_text())
    assert json.loads((tmp_path / "tf1" / "bert_config.json").read_text()) == config
    converted(tmp_path / "tf1", tmp_path / "again")
    assert_equal(tensors(tmp_path / "hf"), tensors(tmp_path / "again"))


@pytest.mark.parametrize("shards", [1, 3])
def test_the_model_that_was_written_is_the_one_that_is_loaded(
    make_checkpoint: Make, pretrained: Any, tmp_path: Path, shards: int
) -> None:
    summary = converted(make_checkpoint(shards=shards), tmp_path / "hf")
    assert summary.heads == ("pooler", "masked-LM", "next-sentence")
    assert summary.num_parameters == sum(p.numel() for p in pretrained.parameters())
    model, info = load(BertForPreTraining, tmp_path / "hf")
    assert info == HARMLESS
    for name, value in pretrained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        masked, _ = load(AutoModelForMaskedLM, tmp_path / "hf")
        assert torch.equal(masked(ids).logits, pretrained(ids).prediction_logits)
        encoder, info = load(AutoModel, tmp_path / "hf")
        assert not info["missing_keys"]
        assert torch.equal(encoder(ids).pooler_output, pretrained.bert(ids).pooler_output)


def test_a_checkpoint_without_slots_comes_back_byte_for_byte(checkpoint: Path, tmp_path: Path) -> None:
    converted(checkpoint, tmp_path / "hf")
    back(tmp_path / "hf", tmp_path / "tf1")
    (checkpoint / "bert_config.json").write_text(dump(json.loads((checkpoint / "bert_config.json").read_text())))
    for file in checkpoint.iterdir():
        assert (tmp_path / "tf1" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    ("left", "architecture"),
    [
        ("bert/", "BertModel"),
        (r"bert/(?!pooler)", "BertModel"),
        (r"(bert|cls/pred)", "BertForMaskedLM"),
        (r"(bert/(?!pooler)|cls/pred)", "BertForMaskedLM"),
        (r"(bert|cls/seq)", "BertForNextSentencePrediction"),
    ],
)
def test_parts_of_a_checkpoint(make_checkpoint: Make, tmp_path: Path, left: str, architecture: str) -> None:
    source = make_checkpoint(left=left)
    summary = converted(source, tmp_path / "hf")
    assert summary.architecture == architecture
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == [architecture]
    _, info = load(AutoModel, tmp_path / "hf")
    assert info["missing_keys"] <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert bool(info["missing_keys"]) == ("pooler" not in summary.heads)
    back(tmp_path / "hf", tmp_path / "tf1")
    assert_equal(variables(tmp_path / "tf1"), variables(source))


def test_what_is_no_part_of_bert_is_left_out_and_named(make_checkpoint: Make, tmp_path: Path) -> None:
    more = {
        "output_weights": np.zeros((4, 8), np.float32),
        "cls/squad/output_bias": np.zeros(2, np.float32),
        "global_step": np.array(3, np.int64),
        "bert/pooler/dense/bias/adam_m": np.zeros(8, np.float32),
    }
    summary = converted(make_checkpoint(more=more), tmp_path / "hf")
    assert summary.left_out == ("cls/squad/output_bias [2]", "output_weights [4, 8]")
    assert summary.optimizers == ("bert/pooler/dense/bias/adam_m", "global_step")
    assert load(BertForPreTraining, tmp_path / "hf")[1] == HARMLESS


def test_a_folder_of_transformers_goes_there_and_back(pretrained: Any, checkpoint: Path, tmp_path: Path) -> None:
    pretrained.save_pretrained(tmp_path / "hf")
    shutil.copy(checkpoint / "vocab.txt", tmp_path / "hf")
    back(tmp_path / "hf", tmp_path / "tf1")
    assert_equal(variables(tmp_path / "tf1"), variables(checkpoint))
    converted(tmp_path / "tf1", tmp_path / "again")
    assert_equal(tensors(tmp_path / "hf"), tensors(tmp_path / "again"))


def test_the_tiny_encoder_goes_there_and_back(tiny_encoder: Path, tmp_path: Path) -> None:
    """A bare BertModel, whose names have no prefix."""
    back(tiny_encoder, tmp_path / "tf1")
    converted(tmp_path / "tf1", tmp_path / "hf")
    assert_equal(tensors(tiny_encoder), tensors(tmp_path / "hf"))
    texts = ["The film is good, isn't it?", "A sad story."]
    ids = [TextTokenizer.load(folder).encode(texts) for folder in (tiny_encoder, tmp_path / "hf")]
    assert all(np.array_equal(a, b) for a, b in zip(*ids, strict=True))


def test_names_of_older_versions_and_copies_of_tied_weights(checkpoint: Path, tmp_path: Path) -> None:
    converted(checkpoint, tmp_path / "hf")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): v for name, v in tensors(tmp_path / "hf").items()}
    old["bert.embeddings.position_ids"] = np.arange(20)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    old["cls.predictions.decoder.bias"] = old["cls.predictions.bias"]
    save_file(old, tmp_path / "hf" / "model.safetensors")
    assert not back(tmp_path / "hf", tmp_path / "tf1").left_out
    assert_equal(variables(tmp_path / "tf1"), variables(checkpoint))
    old["cls.predictions.decoder.weight"] = old["cls.predictions.decoder.weight"] + 1
    save_file(old, tmp_path / "hf" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"decoder.weight differs from bert.embeddings.word_embeddings.weight"):
        back(tmp_path / "hf", tmp_path / "other")


def test_weights_in_several_files(pretrained: Any, checkpoint: Path, tmp_path: Path) -> None:
    pretrained.save_pretrained(tmp_path / "hf", max_shard_size="2KB")
    shutil.copy(checkpoint / "vocab.txt", tmp_path / "hf")
    assert not (tmp_path / "hf" / "model.safetensors").exists()
    back(tmp_path / "hf", tmp_path / "tf1")
    assert_equal(variables(tmp_path / "tf1"), variables(checkpoint))
    next((tmp_path / "hf").glob("model-00002*")).unlink()
    with pytest.raises(CheckpointError, match="missing; weights are read from"):
        back(tmp_path / "hf", tmp_path / "other")


def test_transformers_reads_the_same_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    converted(checkpoint, tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert (theirs.model_max_length, theirs.pad_token_id, theirs.mask_token_id) == (20, 0, 4)
    # No letter follows another in this vocabulary, but for vowels.
    assert theirs("B A [MASK]")["input_ids"] == [2, 6, 5, 4, 3]
    ours = TextTokenizer.load(tmp_path / "hf")
    assert ours.encode(["Ba b"])[0].tolist() == theirs("Ba b", add_special_tokens=False)["input_ids"] == [6, 31, 6]
    assert AutoTokenizer.from_pretrained(tmp_path / "hf", use_fast=True).tokenize("É") == ["e"]


@pytest.mark.parametrize("lower", [True, False])
def test_case_can_be_said(checkpoint: Path, tmp_path: Path, lower: bool) -> None:
    assert converted(checkpoint, tmp_path / "hf", lower).lower_case is lower
    for ids in (
        TextTokenizer.load(tmp_path / "hf").encode(["A"])[0].tolist(),
        AutoTokenizer.from_pretrained(tmp_path / "hf")("A", add_special_tokens=False)["input_ids"],
    ):
        assert ids == ([5] if lower else [1])


def test_the_chinese_vocabulary_is_lower_cased(shared: Path, tmp_path: Path) -> None:
    """Google says so of this model; its vocabulary has next to no capital letters."""
    from doctune.convert.vocabularies import write_tokenizer

    path = shared / "models" / "tf1-index-only" / "chinese_L-12_H-768_A-12" / "vocab.txt"
    tokenizer = write_tokenizer("x", path.read_bytes(), None, 512, tmp_path)
    assert tokenizer.size == 21128
    assert tokenizer.config["do_lower_case"] is True


def test_a_vocabulary_from_tokenizer_json_alone(checkpoint: Path, tmp_path: Path) -> None:
    converted(checkpoint, tmp_path / "hf")
    (tmp_path / "hf" / "vocab.txt").unlink()
    assert back(tmp_path / "hf", tmp_path / "tf1").lower_case is True
    assert (tmp_path / "tf1" / "vocab.txt").read_bytes() == (checkpoint / "vocab.txt").read_bytes()


def test_no_tokenizer_at_all(checkpoint: Path, tmp_path: Path) -> None:
    converted(checkpoint, tmp_path / "hf")
    for name in ("vocab.txt", "tokenizer.json"):
        (tmp_path / "hf" / name).unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer.json or vocab.txt; give the vocabulary with --vocab FILE"):
        back(tmp_path / "hf", tmp_path / "tf1")
    assert back(tmp_path / "hf", tmp_path / "given", checkpoint / "vocab.txt").lower_case is None


def test_a_tokenizer_without_word_pieces(checkpoint: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    converted(checkpoint, tmp_path / "hf")
    tokens = (checkpoint / "vocab.txt").read_text().split()
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "hf" / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"a WordLevel tokenizer; .* word pieces only"):
        back(tmp_path / "hf", tmp_path / "tf1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta'; only BERT has a TensorFlow 1 form"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05; the TensorFlow 1 code of BERT knows only 1e-12"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is relative_key"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; .* knows gelu, relu, tanh, linear"),
        ({"num_hidden_layers": 3}, "16 of 53 weights of the encoder part are missing, for instance bert.encoder.layer"),
        ({"num_hidden_layers": 1}, "16 weights that a BERT of its config has not"),
        ({"intermediate_size": 13}, r"intermediate.dense.weight has shape \[12, 8\], .* should have \[13, 8\]"),
        ({"num_attention_heads": 3}, "hidden_size 8 is no multiple of num_attention_heads 3"),
        ({"vocab_size": "many"}, "vocab_size is 'many'; a whole number"),
    ],
)
def test_what_the_original_cannot_compute(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    converted(checkpoint, tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        back(tmp_path / "hf", tmp_path / "tf1")


def test_other_types_are_refused_both_ways(make_checkpoint: Make, tmp_path: Path) -> None:
    converted(make_checkpoint("sound"), tmp_path / "hf")
    half = {name: value.astype(np.float16) for name, value in tensors(tmp_path / "hf").items()}
    save_file(half, tmp_path / "hf" / "model.safetensors")
    with pytest.raises(CheckpointError, match="is float16; only float32 is converted"):
        back(tmp_path / "hf", tmp_path / "tf1")
    source = make_checkpoint("half", more={"bert/pooler/dense/bias": np.zeros(8, np.float16)})
    with pytest.raises(CheckpointError, match="bert/pooler/dense/bias is float16; only float32"):
        converted(source, tmp_path / "other")


def test_a_damaged_safetensors_file(checkpoint: Path, tmp_path: Path) -> None:
    converted(checkpoint, tmp_path / "hf")
    path = tmp_path / "hf" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        back(tmp_path / "hf", tmp_path / "tf1")


def test_converting_reaches_neither_torch_nor_transformers() -> None:
    code = "import sys, doctune.commands.convert; print({'torch', 'transformers', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

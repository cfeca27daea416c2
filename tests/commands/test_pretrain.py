"""`doctune pretrain`: what it leaves behind is used by others, and a killed run ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForPreTraining

from doctune.models.pretrained_folder import FACTS
from doctune.store.corpus import Corpus

Done = Any
SECONDS_TO_WAIT = 120
SMALL = ["--sequence-len", "32", "--batch-size", "4", "--precision", "fp32", "--held-out", "4"]


@pytest.fixture
def pretrain(cli: Callable[..., Done], tiny_corpus: Path, tmp_path: Path) -> Callable[..., Done]:
    def run(*arguments: object, output: str = "run") -> Done:
        return cli("pretrain", "--corpus", tiny_corpus, *SMALL, *arguments, "--output", tmp_path / output)

    return run


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for line in lines if (record := json.loads(line))["kind"] == kind]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_encoder_from_scratch_learns_and_is_used(
    pretrain: Callable[..., Done], cli: Callable[..., Done], tiny_csv: Callable[..., Path], tiny_corpus: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                                  "intermediate_size": 64, "max_position_embeddings": 64}))  # fmt: skip
    done = pretrain("--from-scratch", config, "--steps", 150, "--evaluations", 3, "--learning-rate", "3e-3")
    assert done.code == 0, done.err
    folder = tmp_path / "run"
    held_out = [record["mlm_loss"] for record in records(folder, "evaluation")]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0] < 4.8  # of some 110 word pieces, about as likely as one another
    assert f"loss {held_out[-1]:.3f}" in done.out or f"loss {min(held_out):.3f}" in done.out

    model, info = BertForPreTraining.from_pretrained(folder / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(folder / "model").mask_token == "[MASK]"
    facts = json.loads((folder / "model" / FACTS).read_text())
    assert "pre-trained from scratch by doctune" in (folder / "model" / "README.md").read_text()
    manifest = Corpus.open(tiny_corpus).manifest
    assert facts["steps"] == 150
    assert facts["tokens"] == records(folder, "evaluation")[-1]["tokens"] > 150 * 4 * 5
    assert facts["corpus"]["documents"] == manifest.total.documents == 40
    assert not facts["corpus"]["transductive"]

    train = tiny_csv()
    output = tmp_path / "classifier"
    done = cli("finetune", "--train", train, "--encoder", folder / "model", "--output", output, "--epochs", 1)
    assert done.code == 0, done.err
    assert (output / "model" / "model.safetensors").is_file()


def test_a_killed_run_ends_with_the_same_weights(tiny_corpus: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    """New heads are trained alone first; killed in that part, and then again in the main one."""
    arguments = [
        "pretrain", "--corpus", str(tiny_corpus), "--encoder", str(tiny_encoder), *SMALL, "--steps", "120",
        "--head-warmup", "0.4", "--short-share", "0.5", "--evaluations", "4", "--checkpoint-minutes", "0",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(output: Path, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "doctune", *arguments, "--output", str(output), *more]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(whole).wait() == 0
    for number, part in enumerate(("checkpoint-heads", "checkpoint")):
        with start(killed, *(["--resume"] if number else [])) as process:
            state, deadline = killed / part / "state.json", time.monotonic() + SECONDS_TO_WAIT
            while process.poll() is None and not state.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert not (killed / "model").exists(), "it finished before it was killed"
    assert start(killed, "--resume").wait() == 0
    assert equal(whole / "model", killed / "model")
    assert records(killed, "evaluation") == records(whole, "evaluation")


def test_a_run_is_prolonged_or_cut_short_with_another_budget(
    pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the constant part of a trapezoid of 200 steps and resumed as one of 60: as if it had been that."""
    shape = ["--encoder", tiny_encoder, "--schedule", "trapezoid", "--warmup", "0", "--decay", "0.5"]
    shape += ["--head-warmup", "0", "--checkpoint-minutes", "0"]
    assert pretrain(*shape, "--steps", 60, "--evaluations", 1, output="whole").code == 0

    def killed(*_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("doctune.runs.pretraining_job.measure", killed)
        assert pretrain(*shape, "--steps", 200, "--evaluations", 8).code == 130
    assert json.loads((tmp_path / "run" / "checkpoint" / "state.json").read_text())["state"]["step"] == 24
    done = pretrain(*shape, "--steps", 60, "--evaluations", 1, "--resume")
    assert done.code == 0, done.err
    assert equal(tmp_path / "whole" / "model", tmp_path / "run" / "model")
    refused = pretrain(*shape, "--steps", 60, "--batch-size", 5, "--resume")
    assert "training.batch_size: 5, but the run" in refused.error


def test_a_finished_run_is_prolonged_from_where_its_rate_began_to_fall(
    pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path
) -> None:
    shape = ["--encoder", tiny_encoder, "--schedule", "trapezoid", "--warmup", "0", "--decay", "0.25"]
    shape += ["--evaluations", 1, "--head-warmup", "0.2", "--checkpoint-minutes", "60"]
    # The warm-up of the heads is a share of the budget that a run began with.
    assert pretrain(*shape, "--steps", 40, output="run").code == 0
    assert json.loads((tmp_path / "run" / "checkpoint-kept" / "state.json").read_text())["state"]["step"] == 30
    done = pretrain(*shape, "--steps", 60, "--resume", output="run")
    assert done.code == 0, done.err
    assert "trained alone" not in done.err
    rates = {record["step"]: record["learning_rate"] for record in records(tmp_path / "run", "step")}
    assert rates[41] == 5e-5
    assert json.loads((tmp_path / "run" / "model" / FACTS).read_text())["steps"] == 60


def test_snapshots_are_encoders_on_the_way(pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path) -> None:
    done = pretrain("--encoder", tiny_encoder, "--steps", 40, "--snapshots", 2, "--evaluations", 4)
    assert done.code == 0, done.err
    folders = sorted((tmp_path / "run" / "snapshots").iterdir())
    assert [folder.name for folder in folders] == ["step-0000020", "step-0000040"]
    assert [json.loads((folder / FACTS).read_text())["steps"] for folder in folders] == [20, 40]
    assert not equal(*folders)
    AutoModelForMaskedLM.from_pretrained(folders[0])


def test_a_resumed_run_takes_no_snapshot_twice(
    pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two snapshots; measured often, so that a measurement comes before the second one is due."""
    shape = ["--encoder", tiny_encoder, "--steps", 40, "--snapshots", 2, "--evaluations", 8, "--schedule", "trapezoid"]
    shape += ["--checkpoint-minutes", 0]
    from doctune.runs import pretraining_job as pretrain_job

    measured, times = pretrain_job.measure, []

    def killed_at_the_sixth(*arguments: Any) -> dict[str, float]:
        times.append(1)
        if len(times) == 6:
            raise KeyboardInterrupt
        return measured(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(pretrain_job, "measure", killed_at_the_sixth)
        assert pretrain(*shape).code == 130
    assert pretrain(*shape, "--resume").code == 0
    run = tmp_path / "run"
    assert [folder.name for folder in sorted((run / "snapshots").iterdir())] == ["step-0000020", "step-0000040"]
    # Of the heads' warm-up nothing is left.
    assert not [folder.name for folder in run.iterdir() if "heads" in folder.name and folder.is_dir()]


def test_masked_words_alone(pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path) -> None:
    """Without pairs the pooler is not trained, and goes with the encoder as it was."""
    done = pretrain("--encoder", tiny_encoder, "--objective", "none", "--steps", 10, "--masking", "whole-word")
    assert done.code == 0, done.err
    assert "pairs" not in done.out
    assert "new heads (masked words)" in done.err
    before, after = weights(tiny_encoder), weights(tmp_path / "run" / "model")
    assert torch.equal(after["bert.pooler.dense.weight"], before["pooler.dense.weight"])
    assert not torch.equal(
        after["bert.encoder.layer.1.output.dense.weight"], before["encoder.layer.1.output.dense.weight"]
    )
    assert not any("seq_relationship" in name for name in after)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"]


def test_weights_of_16_bits_take_half_the_room(
    pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Nothing but the writing differs; a finished run can be written again in another way."""
    arguments = ["--encoder", tiny_encoder, "--steps", 5, "--head-warmup", "0", "--checkpoint-minutes", "0"]
    assert pretrain(*arguments).code == 0
    whole = weights(tmp_path / "run" / "model")
    done = pretrain(*arguments, "--save-dtype", "float16", "--resume")
    assert done.code == 0, done.err
    folder = tmp_path / "run" / "model"
    half = weights(folder)
    assert all(torch.equal(half[name], tensor.half()) for name, tensor in whole.items())
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    model = AutoModelForMaskedLM.from_pretrained(folder)
    assert model.dtype == torch.float16
    assert pretrain("--encoder", folder, "--steps", 1, output="next").code == 0


def test_a_sentence_transformers_folder_stays_one(
    pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    start.mkdir()
    for file in tiny_encoder.iterdir():
        (start / file.name).write_bytes(file.read_bytes())
    (start / "modules.json").write_text("[]")
    (start / "1_Pooling").mkdir()
    (start / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert pretrain("--encoder", start, "--steps", 2).code == 0
    assert (
        tmp_path / "run" / "model" / "1_Pooling" / "config.json"
    ).read_text() == '{"pooling_mode_mean_tokens": true}'


@pytest.mark.parametrize("budget", [("--tokens", "3000"), ("--minutes", "0.02")])
def test_budgets(pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path, budget: tuple[str, str]) -> None:
    done = pretrain("--encoder", tiny_encoder, *budget, "--head-warmup", 0)
    assert done.code == 0, done.err
    facts = json.loads((tmp_path / "run" / "model" / FACTS).read_text())
    if budget[0] == "--tokens":
        assert 3000 <= facts["tokens"] < 3000 + 4 * 32
    else:
        assert 1.0 <= facts["seconds"] < 60
    rates = [record["learning_rate"] for record in records(tmp_path / "run", "step")]
    assert all(0 <= rate <= 5e-5 for rate in rates)


def test_the_paper_is_the_default(tiny_corpus: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    from doctune.runs.pretraining import with_defaults
    from doctune.runs.pretraining_job import make_budget
    from doctune.settings import PretrainSettings

    tree = {"corpus": str(tiny_corpus), "output": str(tmp_path), "start": {"encoder": str(tiny_encoder)}}
    settings = with_defaults(PretrainSettings.build(tree))
    assert make_budget(settings).end == 100_000
    assert settings.schedule.warmup * make_budget(settings).end == 10_000
    assert (settings.training.batch_size, settings.pairs.sequence_len) == (32, 128)
    assert settings.optimizer.learning_rate == 5e-5
    assert (settings.masking.masked_lm_prob, settings.pairs.short_seq_prob, settings.pairs.objective) == (
        0.15,
        0.1,
        "nsp",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --encoder DIR_OR_ID or --from-scratch PRESET"),
        (["--from-scratch", "huge"], "'huge' is no preset (mini, small, medium) and no config.json"),
        (["--from-scratch", "mini", "--steps", "5", "--tokens", "7"], "more than one budget: steps and tokens"),
        (["--encoder", "TINY", "--sequence-len", "512"], "512, but the encoder has 128 positions"),
        (["--encoder", "TINY", "--optimizer", "bert-adam", "--tokens", "9"], "bert-adam counts steps"),
        (["--encoder", "TINY", "--mask-fraction", "0.95"], "add up to more than 1"),
        (["--from-scratch", "mini", "--head-warmup", "0.1", "--steps", "10"], "leave it out"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(
    pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = pretrain(*(str(tiny_encoder) if word == "TINY" else word for word in arguments))
    assert message in done.error
    assert not (tmp_path / "run" / "model").exists()


def test_a_corpus_of_another_tokenizer_is_refused(
    pretrain: Callable[..., Done], tiny_encoder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_encoder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    lines = (other / "vocab.txt").read_text().replace("film", "filn")
    (other / "vocab.txt").write_text(lines)
    assert "was made with another tokenizer" in pretrain("--encoder", other).error


def test_a_folder_that_is_no_corpus(cli: Callable[..., Done], tiny_encoder: Path, tmp_path: Path) -> None:
    done = cli("pretrain", "--corpus", tmp_path, "--encoder", tiny_encoder, "--output", tmp_path / "run")
    assert "make a corpus with doctune corpus" in done.error
    assert not (tmp_path / "run").exists()

"""What is finished is used again for the same content only, wherever that lies; nothing is tokenised twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from doctune.errors import ConfigError, DataError
from doctune.readers import sources
from doctune.runs import comparing, finetuning, multitasking
from doctune.runs.data import read
from doctune.runs.identity import Identity, documents_parts, file_content, folder_content, source_content
from doctune.settings import DataSettings
from doctune.targets import TargetSettings
from doctune.text.tokenizer import TextTokenizer

Start = Callable[..., Any]
Csv = Callable[..., Path]


def killed(*args: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


def copy_of(encoder: Path, folder: Path) -> Path:
    shutil.copytree(encoder, folder)
    return folder


def change_a_weight(encoder: Path) -> None:
    tensors = load_file(encoder / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 0.01
    save_file(tensors, encoder / "model.safetensors", metadata={"format": "pt"})


def shards(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.arrow")}


@pytest.fixture
def half_done(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A run of a command that was killed behind its first seed, encoder or task."""

    def make(command: str, **changes: Any) -> Path:
        output, done = tmp_path / "run", list[str]()

        def fit(one: Any, context: Any) -> Any:
            if done:
                raise KeyboardInterrupt
            done.append(one.folder.name)
            return original(one, context)

        module = multitasking if command == "multitask" else finetuning
        original = module.fit
        with monkeypatch.context() as patched:
            patched.setattr(module, "fit", fit)
            with pytest.raises(KeyboardInterrupt):
                start(command, output, **changes)
        assert list(output.rglob("report.json"))
        return output

    return make


@pytest.mark.parametrize("command", ["seeds", "compare", "multitask"])
def test_a_replaced_training_file_is_refused(
    command: str, half_done: Callable[..., Path], start: Start, csv: Csv
) -> None:
    output = half_done(command)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    csv(word="other")
    with pytest.raises(
        ConfigError, match=r"^the training documents.*train\.csv\) have changed since .* was begun"
    ) as e:
        start(command, output, resume=True)
    assert "give a new --output" in str(e.value)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    csv()
    start(command, output, resume=True)


def test_a_finished_base_run_is_of_its_data(start: Start, csv: Csv, tmp_path: Path) -> None:
    base = tmp_path / "base-run"
    start("finetune", base)
    csv(word="other")
    with pytest.raises(ConfigError, match=r"training documents.*have changed since .*base-run.*leave --base-run out"):
        start("compare", tmp_path / "out", base_run=base)
    assert not (tmp_path / "out").exists()
    csv()
    (base / "identity.json").unlink()
    with pytest.raises(ConfigError, match=r"older doctune that does not say of which data it is.*leave --base-run out"):
        start("compare", tmp_path / "out", base_run=base)


def test_a_file_that_changes_between_two_runs_of_a_comparison(
    start: Start, csv: Csv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    original = comparing.finetuning.run

    def run(settings: Any, *rest: Any) -> Any:
        report = original(settings, *rest)
        csv(word="other")
        return report

    monkeypatch.setattr(comparing.finetuning, "run", run)
    with pytest.raises(ConfigError, match="the documents changed between"):
        start("compare", tmp_path / "out")


def test_a_cell_of_a_curve_is_of_its_data(start: Start, csv: Csv, tmp_path: Path) -> None:
    """In one process, too: what was read of the old file is not used for the new one."""
    output = tmp_path / "out"
    start("curve", output)
    csv(word="other", rows=30)
    start("curve", output)
    reports = [json.loads(path.read_text()) for path in output.rglob("report.json")]
    assert sorted(report["data"]["train_examples"]["of"] for report in reports) == [24, 30]


def test_a_file_that_is_replaced_behind_the_plan_of_a_study(
    start: Start, csv: Csv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doctune.errors import TrainingError
    from doctune.studies import curve

    original = curve.do_runs

    def do_runs(*args: Any) -> Any:
        csv(word="other")
        return original(*args)

    monkeypatch.setattr(curve, "do_runs", do_runs)
    with pytest.raises(TrainingError, match=r"train\.csv: changed since the study was planned"):
        start("curve", tmp_path / "out")


@pytest.mark.parametrize("command", ["seeds", "multitask"])
def test_the_encoder_is_known_by_its_bytes(
    command: str, half_done: Callable[..., Path], start: Start, tiny_encoder: Path, tmp_path: Path
) -> None:
    output = half_done(command, encoder=str(copy_of(tiny_encoder, tmp_path / "one")))
    moved = copy_of(tiny_encoder, tmp_path / "two")
    change_a_weight(tmp_path / "one")
    with pytest.raises(ConfigError, match=r"the encoder's files \(.*one\) have changed since"):
        start(command, output, resume=True, encoder=str(tmp_path / "one"))
    start(command, output, resume=True, encoder=str(moved))


def test_a_checkpoint_belongs_to_the_bytes_of_the_encoder_and_the_corpus(
    start: Start, tiny_encoder: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doctune.training.state import Checkpoints

    save, output = Checkpoints.save_if_due, tmp_path / "run"

    def save_and_die(self: Checkpoints, *args: Any) -> None:
        save(self, *args)
        raise KeyboardInterrupt

    encoder, corpus = copy_of(tiny_encoder, tmp_path / "one"), copy_of(tiny_corpus, tmp_path / "corpus")
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save_if_due", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            start("pretrain", output, encoder=str(encoder), head_warmup=0)
    change_a_weight(encoder)
    with pytest.raises(ConfigError, match="the encoder's files"):
        start("pretrain", output, encoder=str(encoder), head_warmup=0, resume=True)
    moved = copy_of(tiny_encoder, tmp_path / "two")
    start("pretrain", output, encoder=str(moved), corpus=str(corpus), head_warmup=0, resume=True)


def test_a_resumed_run_tokenises_nothing_and_may_have_moved(
    half_done: Callable[..., Path], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = half_done("seeds")
    before = shards(output)
    assert len(before) == 1
    moved = tmp_path / "elsewhere" / "train.csv"
    moved.parent.mkdir()
    shutil.move(tmp_path / "data" / "train.csv", moved)
    calls = []
    encode = TextTokenizer.encode
    monkeypatch.setattr(TextTokenizer, "encode", lambda self, texts: calls.append(texts) or encode(self, texts))
    report = start("seeds", output, train=str(moved), resume=True)
    assert report["seeds"]["seeds"] == [42, 43]
    assert calls == []
    assert shards(output) == before


@pytest.mark.parametrize("command", ["multitask"])
def test_nor_does_one_of_several_tasks(
    command: str, half_done: Callable[..., Path], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = half_done(command)
    before = shards(output)
    assert len(before) == 2
    monkeypatch.setattr(TextTokenizer, "encode", killed)
    start(command, output, resume=True)
    assert shards(output) == before


def test_a_run_of_an_older_version_is_not_used(half_done: Callable[..., Path], start: Start) -> None:
    output = half_done("seeds")
    for path in output.rglob("identity.json"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"holds work of an older doctune .*identity\.json is missing"):
        start("seeds", output, resume=True)


def test_each_part_changes_the_key_and_is_named() -> None:
    parts = dict.fromkeys(("films/train", "films/reading", "corpus", "tokenizer", "encoder", "recipe"), "0")
    one = Identity(parts, {"films/train": "a.csv"})
    keys = {one.key(), one.key(42), one.key(43)} | {Identity({**parts, name: "1"}).key() for name in parts}
    assert len(keys) == 3 + len(parts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "1"}, r"the training documents \(now b\.csv, then a\.csv\) have changed since"),
        ({"test": "1"}, "the test documents are new since"),
        ({"validation": None}, "the validation documents are gone since"),
        ({"reading": "1"}, "the settings of how documents are read have changed since"),
        ({"tokenizer": "1"}, "the encoder's tokenizer has changed since"),
        ({"recipe": "1"}, "the settings have changed since"),
    ],
)
def test_the_line_names_what_differs(changes: dict[str, str | None], message: str, tmp_path: Path) -> None:
    parts = dict.fromkeys(("train", "validation", "reading", "tokenizer", "encoder", "recipe"), "0")
    Identity(parts, {"train": "a.csv"}).write(tmp_path)
    Identity(parts, {"train": "b.csv"}).check(tmp_path)
    new = {name: value for name, value in {**parts, **changes}.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        Identity(new, {"train": "b.csv"}).check(tmp_path)


def test_contents_are_remembered_by_size_and_times_and_follow_every_change(tmp_path: Path) -> None:
    folder, file = tmp_path / "data", tmp_path / "data" / "a.csv"
    folder.mkdir()
    file.write_text("one")
    first, listed, times = file_content(file), folder_content(folder), file.stat()
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as long, and with the same time
    assert file_content(file) != first
    assert folder_content(folder) != listed
    file.write_text("one")
    assert (file_content(file), folder_content(folder)) == (first, listed)
    (folder / "b.csv").write_text("")
    assert folder_content(folder) != listed


def test_how_documents_are_read_counts(tmp_path: Path) -> None:
    for name in ("a.csv", "a.tsv"):
        (tmp_path / name).write_text("text,label\ta\nfilm,x\ty\n")
    seen = set()
    for settings in (
        {"train": "a.csv"}, {"train": "a.tsv"}, {"train": "a.csv", "header": False, "text": (0,), "label": 1},
        {"train": "a.csv", "encoding": "latin-1"},
    ):  # fmt: skip
        data = DataSettings.build({**settings, "train": str(tmp_path / settings["train"])})
        parts = documents_parts(data, sources(data))
        assert parts["train"] == file_content(tmp_path / "a.csv")
        seen.add(parts["reading"])
    assert len(seen) == 4
    few = DataSettings.build({"train": str(tmp_path / "a.csv"), "train_examples": 5, "cache": "x"})
    assert documents_parts(few, sources(few))["reading"] in seen


def test_the_code_of_a_reader_counts(tmp_path: Path) -> None:
    code = (
        "from doctune.examples import Example\nclass R:\n    labels = None\n"
        "    def read(self, path, split):\n        yield Example('1', 'film', 'x')\n"
    )
    reader, parts = tmp_path / "reader.py", []
    (tmp_path / "a.txt").write_text("")
    for text in (code, code.replace("film", "book")):
        reader.write_text(text)
        data = DataSettings.build({"train": str(tmp_path / "a.txt"), "dataset": f"{reader}:R"})
        parts.append(documents_parts(data, sources(data)))
    assert parts[0]["train"] == parts[1]["train"]
    assert parts[0]["reading"] != parts[1]["reading"]


def test_documents_without_a_file_are_known_by_what_they_are(tmp_path: Path) -> None:
    from doctune.examples import Example
    from doctune.readers import Source

    class Hub:
        labels = None

        def __init__(self, text: str) -> None:
            self.text = text

        def read(self, path: Path, split: str) -> Any:
            yield Example("1", self.text, "x")

    one, same, other = (source_content(Source("hf:name", "train", Hub(text))) for text in ("a", "a", "b"))
    assert one == same != other


def test_a_file_that_changes_while_it_is_read(
    csv: Csv, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tokenizer = DataSettings.build({"train": str(csv())}), TextTokenizer.load(tiny_encoder)
    encode = TextTokenizer.encode
    monkeypatch.setattr(TextTokenizer, "encode", lambda self, texts: (csv(word="other"), encode(self, texts))[1])
    with pytest.raises(DataError, match="changed while the documents were read"):
        read(data, TargetSettings(), sources(data), tokenizer, tmp_path / "shards")

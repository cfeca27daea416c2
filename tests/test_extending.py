"""Parts of one's own: every example of docs/extending.md in a run from end to end, and what is half wired."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import doctune
from doctune.cli import main
from doctune.errors import ConfigError, UserError

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
# The settings that choose each example, and the name that a model knows it by.
EXAMPLES: dict[str, tuple[dict[str, Any], str]] = {
    "Middle": ({"truncation": "Middle"}, "middle"),
    "PowerMean": ({"token_pooling": "PowerMean", "token_pooling_options": {"power": 2.0}}, "power-mean"),
    "WeightedSum": ({"layer_pooling": "WeightedSum", "layers": (-2, -1)}, "weighted-sum"),
    "FirstWindow": ({"window_pooling": "FirstWindow", "truncation": "windows"}, "first"),
    "MeanAndMax": ({"head": "MeanAndMax"}, "mean-and-max"),
    "Polynomial": ({"schedule": "Polynomial", "schedule_options": {"power": 1.5}}, "polynomial"),
    "Momentum": ({"optimizer": "Momentum", "learning_rate": 0.1}, "momentum"),
    "WorstClass": ({"select": "WorstClass"}, "worst_class"),
}
IN_MODEL = ("Middle", "PowerMean", "WeightedSum", "FirstWindow", "MeanAndMax")
TEXTS = ["the film is awful", "the film is great and good " * 8]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's examples as the file that it says they are."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path_factory.mktemp("parts") / "my_parts.py"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    return path


@pytest.fixture
def train(tiny_encoder: Path, tiny_csv: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Fine-tunes for a step or two with the settings, and gives the run directory."""

    def make(name: str = "run", **settings: Any) -> Path:
        output = tmp_path / name
        doctune.finetune(
            train=str(tiny_csv()), encoder=str(tiny_encoder), output=str(output), batch_size=8,
            **{"epochs": 1, "max_seq_len": 16, **settings},
        )  # fmt: skip
        return output

    return make


def placed(settings: dict[str, Any], parts: Path) -> dict[str, Any]:
    """The settings with the file before each class."""
    own = {"Middle", "PowerMean", "WeightedSum", "FirstWindow", "MeanAndMax", "Polynomial", "Momentum", "WorstClass"}
    return {key: f"{parts}:{value}" if str(value) in own else value for key, value in settings.items()}


def test_the_page_has_an_example_of_each(parts: Path) -> None:
    assert set(re.findall(r"^class (\w+)", parts.read_text(encoding="utf-8"), re.MULTILINE)) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_trains_saves_loads_and_predicts(train: Callable[..., Path], parts: Path, name: str) -> None:
    settings, own_name = EXAMPLES[name]
    folder = train(**placed(settings, parts))
    description = json.loads((folder / "model" / "doctune.json").read_text())
    assert ".py" not in json.dumps({**description, "columns": None})
    if name not in IN_MODEL:
        assert own_name not in json.dumps(description)
        assert doctune.load(folder).predict_proba(TEXTS).shape == (2, 2)
        return
    values = {**description, **description["truncation"]}
    assert own_name in [values[key] for key in settings if key in values]
    with pytest.raises(ConfigError, match=f"{own_name}.*--components my_file.py:MyClass"):
        doctune.load(folder)
    by_place = doctune.load(folder, components=[f"{parts}:{name}"]).predict_proba(TEXTS)
    made_of = sys.modules["doctune_own_my_parts"].__dict__[name]
    np.testing.assert_array_equal(doctune.load(folder, components=[made_of]).predict_proba(TEXTS), by_place)
    written = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(written)


def test_a_metric_of_ones_own_chooses_the_epoch(train: Callable[..., Path], parts: Path) -> None:
    folder = train(select=f"{parts}:WorstClass", epochs=2)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    figures = [row["validation_worst_class"] for row in rows if "validation_worst_class" in row]
    assert len(figures) == 2
    assert all(0 <= figure <= 1 for figure in figures)


def test_the_options_of_a_saved_part_are_those_of_training(train: Callable[..., Path], parts: Path) -> None:
    folder = train(token_pooling=f"{parts}:PowerMean", token_pooling_options={"power": 2.0})
    model = doctune.load(folder, components=[f"{parts}:PowerMean"]).model
    powers = [module.power for module in model.modules() if type(module).__name__ == "PowerMean"]
    assert powers == [2.0]
    assert "power = 2.0" in (folder / "config.toml").read_text()


def run(words: list[str]) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_line_takes_them(
    tiny_encoder: Path, tiny_csv: Callable[..., Path], tmp_path: Path, parts: Path
) -> None:
    place, output = f"{parts}:PowerMean", str(tmp_path / "run")
    assert not run([
        "finetune", "--train", str(tiny_csv()), "--encoder", str(tiny_encoder), "--output", output, "--epochs", "1",
        "--max-seq-len", "16", "--token-pooling", place, "--set", "features.token_pooling_options.power=2",
    ])  # fmt: skip
    again = str(tmp_path / "again.jsonl")
    assert run(["predict", output, str(tiny_csv()), "--output", again])
    assert not run(["predict", output, str(tiny_csv()), "--output", again, "--components", place])
    assert not run(["evaluate", output, str(tiny_csv()), "--components", place])
    features = str(tmp_path / "features.jsonl")
    assert not run([
        "features", str(tiny_csv()), "--encoder", output, "--token-pooling", place, "--output", features,
        "--components", place,
    ])  # fmt: skip
    # What a run was made with makes it again.
    assert not run(["finetune", "--config", f"{output}/config.toml", "--output", str(tmp_path / "again")])
    for file in ("head.safetensors", "encoder/model.safetensors"):
        weights = [(tmp_path / name / "model" / file).read_bytes() for name in ("run", "again")]
        assert weights[0] == weights[1]


HALF_WIRED = {
    "no name": ("token_pooling", "class P(nn.Module):\n    def forward(self, x, states): return x", "needs a name"),
    "a name of doctune's": ("token_pooling", "class P(nn.Module):\n    name = 'mean'\n    def forward(self, x, s): ...",
        "which doctune has itself"),
    "no forward": ("token_pooling", "class P(nn.Module):\n    name = 'p'", "no method forward"),
    "an unknown argument": ("token_pooling",
        "class P(nn.Module):\n    name = 'p'\n    def __init__(self, width): ...\n    def forward(self, x, s): ...",
        "asks for width when it is made; there is hidden_size, settings"),
    "another size": ("token_pooling", "class P(nn.Module):\n    name = 'p'\n    def forward(self, x, s): return x",
        r"a tensor of shape \(3, 32\), found \(7, 32\)"),
    "no shares": ("window_pooling",
        "class P(nn.Module):\n    name = 'p'\n    def forward(self, x, s): return x[s.first_rows]",
        "no method shares"),
    "wrong shares": ("window_pooling",
        "class P(nn.Module):\n    name = 'p'\n    def forward(self, x, s): return x[s.first_rows]\n"
        "    def shares(self, x, s): return x", "add up"),
    "no output size": ("layer_pooling", "class P(nn.Module):\n    name = 'p'\n    def forward(self, x): return x[0]",
        "output_size"),
    "a head of another size": ("head",
        "class P(nn.Module):\n    name = 'p'\n    output_size = 5\n    def forward(self, x, s): return x[s.first_rows]",
        "shape"),
    "a truncation that does not cut": ("truncation",
        "class P:\n    name = 'p'\n    def windows(self, ids, budget): return [ids]", "windows of 1 to 10 tokens"),
    "half of several windows": ("truncation",
        "class P:\n    name = 'p'\n    def windows(self, ids, budget): return []\n    def places(self):\n        pass",
        "but no numbers, tokens, cuts"),
    "no factor": ("schedule", "class P:\n    name = 'p'\n    def __call__(self, step): return None", "a number"),
    "not callable": ("schedule", "class P:\n    name = 'p'", "no method __call__"),
    "an optimiser that stands still": ("optimizer",
        "class P(torch.optim.SGD):\n    name = 'p'\n    def __init__(self, groups): super().__init__(groups, lr=1)\n"
        "    def step(self, closure=None): ...", "a step that moves the weights"),
    "no optimiser": ("optimizer",
        "class P:\n    name = 'p'\n    def step(self): ...\n    def zero_grad(self): ...", "a torch.optim.Optimizer"),
    "a metric of many numbers": ("select",
        "class P:\n    name = 'p'\n    def __call__(self, judged): return judged.labels", "a number"),
    "no such class": ("schedule", "class Q: ...", "has no class 'P'"),
}  # fmt: skip


@pytest.mark.parametrize("case", HALF_WIRED)
def test_what_is_half_wired_fails_before_anything_is_read(
    train: Callable[..., Path], tmp_path: Path, case: str
) -> None:
    setting, code, message = HALF_WIRED[case]
    path = tmp_path / "broken.py"
    path.write_text(f"import torch\nfrom torch import nn\n\n\n{code}\n")
    extra = {"truncation": "windows"} if setting == "window_pooling" else {}
    with pytest.raises(UserError, match=message) as caught:
        train(**{setting: f"{path}:P"}, **extra)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_options_are_checked_before_anything_is_read(train: Callable[..., Path], tmp_path: Path, parts: Path) -> None:
    for options, message in (({"power": "much"}, "power"), ({"strength": 2}, "no such setting")):
        with pytest.raises(ConfigError, match=f"features.token_pooling_options.*{message}"):
            train(token_pooling=f"{parts}:PowerMean", token_pooling_options=options)
    with pytest.raises(ConfigError, match=r"layer_pooling_options.*has no settings"):
        train(layer_pooling=f"{parts}:WeightedSum", layer_pooling_options={"power": 2})
    with pytest.raises(
        ConfigError, match=r"token_pooling_options is for token_pooling = my_file.py:MyClass, found mean"
    ):
        train(token_pooling="mean", token_pooling_options={"power": 2})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", ["truncation", "layer_pooling", "token_pooling", "window_pooling", "head"])
def test_no_artefact_names_code(train: Callable[..., Path], tmp_path: Path, field: str) -> None:
    folder, ran = train(truncation="windows"), tmp_path / "ran"
    code = tmp_path / "evil.py"
    code.write_text(f"import pathlib\n\npathlib.Path({str(ran)!r}).touch()\n\n\nclass Evil:\n    name = 'evil'\n")
    path = folder / "model" / "doctune.json"
    description = json.loads(path.read_text())
    (description["truncation"] if field == "truncation" else description)[field] = f"{code}:Evil"
    path.write_text(json.dumps(description))
    with pytest.raises(UserError, match="names a file with code"):
        doctune.load(folder)
    assert not ran.exists()


def test_settings_are_read_without_running_the_file(tmp_path: Path) -> None:
    """Reading a stored config, as --resume does to compare it, runs nothing."""
    code = (
        "import sys\nfrom doctune.settings import FinetuneSettings\n"
        "FinetuneSettings.build({'output': 'o', 'data': {'train': 't'}, 'encoder': {'encoder': 'e'},"
        "'features': {'token_pooling': 'nowhere.py:P'}, 'truncation': {'truncation': 'nowhere.py:T'}})\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_changed_file_is_run_again(tmp_path: Path) -> None:
    from doctune.own_code import load_class

    path = tmp_path / "own.py"
    classes = []
    for text in ("class A:\n    value = 1", "class A:\n    value = 1", "class A:\n    value = 2"):
        path.write_text(text)
        classes.append(load_class(f"{path}:A", "here"))
    assert classes[0] is classes[1]
    assert [one.__dict__["value"] for one in classes] == [1, 1, 2]


def test_a_run_is_known_by_what_is_in_the_file(tmp_path: Path) -> None:
    from doctune.settings import FinetuneSettings
    from doctune.settings.implementations import own_files

    path, other = tmp_path / "own.py", tmp_path / "other.py"
    tree = {"output": "o", "data": {"train": "t"}, "encoder": {"encoder": "e"}}
    assert own_files(FinetuneSettings.build(tree)) == []
    settings = FinetuneSettings.build({
        **tree, "schedule": {"schedule": f"{path}:S"}, "features": {"token_pooling": f"{other}:P"},
    })  # fmt: skip
    path.write_text("1")
    other.write_text("2")
    before = own_files(settings)
    assert own_files(settings) == before
    other.write_text("3")
    assert len(set(before) & set(own_files(settings))) == 1

"""BERTAdam, its schedules and the parameter groups equal the original's, value by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from doctune.settings import LayerwiseSettings, ScheduleSettings
from doctune.training.layerwise import layer_rate
from doctune.training.optim import BertAdam
from doctune.training.schedule import make_schedule

# The original's -1 as number of steps means: always the peak rate.
SCHEDULES = {"warmup_linear": "warmup-linear", "warmup_constant": "warmup-constant", "warmup_cosine": "warmup-cosine"}


@pytest.fixture(scope="module")
def optimizer(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "optimizer.json").read_text())


def run(case: dict[str, Any], data: dict[str, Any], dtype: torch.dtype, steps: int) -> dict[str, list[list[float]]]:
    args = case["args"]
    initial = {name: torch.tensor(data["initial"][name], dtype=dtype).reshape(data["shapes"][name]) for name in "abc"}
    parameters = {name: value.clone().requires_grad_() for name, value in initial.items()}
    groups = [
        {
            "params": [parameters[name] for name in group["params"]],
            "base_lr": group.get("lr", args["lr"]),
            "weight_decay": group.get("weight_decay_rate", args.get("weight_decay_rate", 0.01)),
        }
        for group in case["groups"]
    ]
    factor = (lambda step: 1.0) if args["t_total"] == -1 else make_schedule(
        ScheduleSettings.model_construct(schedule=SCHEDULES[args["schedule"]], warmup=args["warmup"]), args["t_total"]
    )  # fmt: skip
    betas = (args.get("b1", 0.9), args.get("b2", 0.999))
    adam = BertAdam(groups, factor, betas, args.get("e", 1e-6), args.get("max_grad_norm", 1.0))
    values: dict[str, list[list[float]]] = {name: [] for name in "abc"}
    for step in range(steps):
        for name, parameter in parameters.items():
            skipped = step in case.get("no_grad", {}).get(name, [])
            gradient = torch.tensor(data["gradients"][name][step], dtype=dtype).reshape(parameter.shape)
            parameter.grad = None if skipped else gradient * case["grad_scale"]
        adam.step()
        for name, parameter in parameters.items():
            values[name].append(parameter.detach().flatten().tolist())
    return values


def test_bert_adam_trajectories(optimizer: dict[str, Any]) -> None:
    seen = 0
    for case in optimizer["cases"]:
        for name, dtype, tolerance in (("float32", torch.float32, 2e-6), ("float64", torch.float64, 1e-11)):
            if name not in case:
                continue
            expected = case[name]["values"]
            # Where the original stops with an error, the steps before it.
            steps = len(expected["a"])
            ours = run(case, optimizer, dtype, steps)
            for parameter, trajectory in expected.items():
                torch.testing.assert_close(
                    torch.tensor(ours[parameter]), torch.tensor(trajectory), rtol=tolerance, atol=tolerance,
                    msg=lambda m, c=case, p=parameter: f"{c['name']} {p}: {m}",
                )  # fmt: skip
            seen += 1
    assert seen >= 16


def test_schedule_factors(optimizer: dict[str, Any]) -> None:
    total = 1000
    seen = 0
    for table in optimizer["schedule_factors"]:
        if table["warmup"] < 0:
            continue
        settings = ScheduleSettings(schedule=SCHEDULES[table["schedule"]], warmup=table["warmup"])
        factor = make_schedule(settings, total)
        for x, expected in zip(table["x"], table["factor"], strict=True):
            if not isinstance(expected, str):
                assert factor(round(x * total)) == pytest.approx(expected, abs=1e-9)
                seen += 1
    assert seen > 100


def layerwise(case: dict[str, Any]) -> tuple[LayerwiseSettings, bool]:
    """Our settings for the arguments of one of the original's runs, and whether the encoder is frozen."""
    args, source = case["args"], case["source"]
    if args.get("frozen_bert"):
        return LayerwiseSettings(layerwise="none", freeze_encoder=True), True
    if source == "run_classifier_no_decay.py":
        if not case["data_parallel_names"]:
            return LayerwiseSettings(layerwise="none"), False
        # Halved from layer 10 down; layer 11 is in no group and stays as it was.
        rates = [args["learning_rate"] / 2 ** (11 - layer) for layer in range(11)]
        return LayerwiseSettings(layerwise="none", layer_rates=(*rates, 0.0)), False
    if not args["discr"]:
        return LayerwiseSettings(layerwise="none"), False
    if source == "run_classifier_discriminative.py":
        rates = tuple(args["layer_learning_rate"])
        decay = args["layer_learning_rate_decay"]
        return LayerwiseSettings(layerwise="original-decay", layer_rates=rates, layer_decay=decay), False
    if source == "run_classifier_multitask.py":
        rate = args["learning_rate"]
        return LayerwiseSettings(layerwise="none", layer_rates=(*[rate / 1.5] * 6, *[rate] * 5, rate * 1.5)), False
    return LayerwiseSettings(layerwise="three-group"), False


def test_parameter_groups(golden: Path) -> None:
    seen = 0
    for case in json.loads((golden / "param_groups.json").read_text())["cases"]:
        # 14 rates for 12 layers are an error here, as are 5 in the original.
        if case.get("error") or case["name"] == "discriminative_14_rates":
            continue
        settings, frozen = layerwise(case)
        layers, base = case["n_layers"], case["args"]["learning_rate"]
        rates = {name: rate for name, rate in _original_rates(case).items()}
        assert rates
        for name, rate in rates.items():
            layer = layers if name.startswith(("bert.pooler", "classifier")) else -1
            if name.startswith("bert.encoder.layer."):
                layer = int(name.split(".")[3])
            ours = layer_rate(layer, layers, layers - 1, base, settings)
            assert ours == pytest.approx(rate, rel=1e-9), (case["name"], name)
        assert frozen == bool(case["n_frozen"])
        seen += 1
    assert seen == 16


def _original_rates(case: dict[str, Any]) -> dict[str, float]:
    """Parameter or layer -> the original's rate; 0 for what is in no group."""
    rates: dict[str, float] = {}
    for name, value in (case.get("params") or case["summary"]).items():
        found = [value[0]] if isinstance(value, list) else {float(key.split("/")[0]) for key in value}
        (rates[name.removeprefix("module.")],) = found
    for name in case["not_in_any_group"]:
        rates[name.removeprefix("module.")] = 0.0
    return rates

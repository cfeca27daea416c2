"""`doctune probe`: which layer and pooling of an encoder to fine-tune, told by linear probes on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from doctune.commands.command import Call, Command
from doctune.commands.features import NO_DROPOUT

if TYPE_CHECKING:
    from doctune.evaluation.probe import Probe
    from doctune.settings import ProbeSettings

USAGE = """
  doctune probe --train FILE [--validation FILE] [--test FILE] --text COLUMN --label COLUMN
                --encoder DIR_OR_ID --output DIR [any setting below]
  doctune probe --dataset NAME --data DIR --encoder DIR_OR_ID --output DIR [any setting below]"""
EXAMPLES = """examples:
  doctune probe --train reviews.csv --text review --label stars --encoder bert-base-uncased --output runs/probe
  doctune probe --dataset trec --data TREC --encoder minilm --max-seq-len 64 --output runs/trec-probe
"""
SECTIONS = {
    "": "run", "data": "data", "target": "labels", "encoder": "encoder", "truncation": "long texts",
    "training": "computing",
}  # fmt: skip


def probe(config: str | Path | None = None, *, command: str = "doctune.probe", **settings: Any) -> Probe:
    """Probe all layers and poolings of an encoder; the report that is also written to the run directory.

    `config` is a TOML file; `settings` are names of `doctune.settings.ProbeSettings`, for instance `train="a.csv",
    encoder="minilm", output="runs/probe"`, and win over the file. Raises `UserError` with one clear line for bad input.
    """
    from doctune.config import merge, read_toml
    from doctune.runs.probing import run
    from doctune.settings import ProbeSettings, from_flat

    tree = merge({} if config is None else read_toml(Path(config)), from_flat(settings, ProbeSettings))
    return run(ProbeSettings.build(tree), command)


def _settings() -> type[ProbeSettings]:
    from doctune.settings import ProbeSettings

    return ProbeSettings


def _run(call: Call) -> None:
    settings = call.settings(_settings())
    from doctune.report.probe import summary_table
    from doctune.runs.probing import run

    print(summary_table(run(settings, call.line)))
    print(f"\nreport  {settings.output}/probe.html")


COMMAND = Command(
    "probe", "which layer and pooling to fine-tune: linear probes on all of them, from one pass", _run,
    settings=_settings, sections=SECTIONS, skip=NO_DROPOUT, usage=USAGE, examples=EXAMPLES,
)  # fmt: skip

"""What the parts of one run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from doctune.devices import Device, choose_device
from doctune.distributed import World
from doctune.evaluation.pretraining_section import further_pretraining
from doctune.evaluation.schema import PretrainingSection
from doctune.settings import TrainingSettings
from doctune.text.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class RunContext:
    """The command line that stands in reports, the encoder, its tokenizer, the device, and the processes.

    `pretraining` are the runs of further pre-training behind the encoder. Of several processes in `world` the first one
    writes.
    """

    command: str
    encoder: Path
    tokenizer: TextTokenizer
    device: Device
    world: World
    pretraining: tuple[PretrainingSection, ...] = ()

    @classmethod
    def of(
        cls, command: str, encoder: Path, tokenizer: TextTokenizer, training: TrainingSettings, world: World
    ) -> RunContext:
        """That of a fine-tuning, on the device that its settings ask for."""
        pretraining = tuple(further_pretraining(encoder))
        device = world.all_or_raise(lambda: choose_device(world.device(training.device), training.precision))
        return cls(command, encoder, tokenizer, device, world, pretraining)

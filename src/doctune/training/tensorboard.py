"""Event files for TensorBoard, where the `tensorboard` package is installed (`pip install 'doctune[tensorboard]'`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

NOT_A_CURVE = ("step", "epoch")


class EventFiles:
    """The numbers of a run's records as curves over steps, in `folder`.

    Nothing is imported or written before the first record, so that a run starts as fast as without.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.step = 0
        self._purge: int | None = None
        self._writer: Any = None
        self._useless = False

    def forget_after(self, step: int) -> None:
        """The run goes on from `step`: TensorBoard is told to drop what an earlier, killed one wrote beyond it."""
        self.close()
        self.step, self._purge = step, step + 1

    def add(self, record: dict[str, Any]) -> None:
        """Write a record's numbers, flushed; one without a step belongs to the last one."""
        self.step = record.get("step", self.step)
        group = {"step": "train"}.get(record["kind"], record["kind"])
        numbers = {
            name.removeprefix("validation_"): value
            for name, value in record.items()
            if name not in NOT_A_CURVE and isinstance(value, int | float)
        }
        writer = self._open()
        if writer is None:
            return
        for name, value in numbers.items():
            writer.add_scalar(f"{group}/{name}", value, self.step)
        writer.flush()

    def close(self) -> None:
        """Finish the file; a later record begins another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Any:
        if self._writer is None and not self._useless:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of packages below tensorboard: none of our user's business
                try:
                    module = importlib.import_module("torch.utils.tensorboard")
                except Exception as error:  # an installation that is broken must not cost the run
                    print(f"tensorboard cannot be used ({error}); metrics.jsonl has all figures", file=sys.stderr)
                    self._useless = True
                    return None
                self._writer = module.SummaryWriter(str(self.folder), purge_step=self._purge)
            weakref.finalize(self, self._writer.close)
        return self._writer


def event_files(metrics: Path) -> EventFiles | None:
    """Where the curves of a metrics file go, or None without the package: `tensorboard/` beside it.

    Those of metrics-NAME.jsonl, which count steps of their own, go to `tensorboard/NAME`.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return None
    _, _, name = metrics.stem.partition("-")
    return EventFiles(metrics.parent / "tensorboard" / name)

"""metrics.jsonl: one JSON object a line, appended as training goes; and TensorBoard's files, where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doctune.files import no_space_is_one_line, write_text
from doctune.training.tensorboard import event_files


class MetricsLog:
    """Appends records to a JSONL file; each is on disk when `write` returns, so a killed run loses none.

    Without `writes` (a process that is not the first of a run) nothing is written.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        if not writes:
            return
        with no_space_is_one_line(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._events = event_files(path)

    def forget_after(self, step: int) -> None:
        """Drop the records of steps after `step`: the run goes on from there and writes them again."""
        if not self.writes:
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed run may be half of one
            if record.get("step", step + 1) <= step:
                kept.append(line + "\n")
        write_text(self.path, "".join(kept))
        if self._events is not None:
            self._events.forget_after(step)

    def write(self, **record: Any) -> None:
        """Append one record; `kind` says what it is: step, evaluation, test."""
        if not self.writes:
            return
        with no_space_is_one_line(self.path):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            if self._events is not None:
                self._events.add(record)

"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import IO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts units of work and shows rate and time left.

    On a terminal this is a tqdm bar; where output goes to a file or a pipe it is one line every 15 seconds,
    so that a log stays readable.
    """

    def __init__(self, total: int | None, what: str, unit: str, stream: IO[str] | None = None, done: int = 0) -> None:
        self.total, self.what, self.unit, self.count, self.note = total, what, unit, done, ""
        self.done_before = done
        self.stream = stream if stream is not None else sys.stderr
        self.started = self.said = time.monotonic()
        self.bar: tqdm[None] | None = None
        if self.stream.isatty():
            self.bar = tqdm(
                total=total,
                initial=done,
                desc=what,
                unit=f" {unit}",
                file=self.stream,
                leave=False,
                smoothing=0.1,
                dynamic_ncols=True,
            )

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more units; `note` (a loss, say) stands at the end."""
        self.count, self.note = self.count + amount, note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(amount)
        elif time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            print(self.line(), file=self.stream, flush=True)

    def line(self) -> str:
        """What a log shows: share, rate, time left, note."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.count - self.done_before) / seconds
        text = f"{self.what}: {self.count:,}"
        if self.total:
            left = (self.total - self.count) / rate if rate else 0.0
            text += f"/{self.total:,} {self.unit} ({100 * self.count / self.total:.0f} %), {rate:.1f} {self.unit}/s, "
            text += f"{duration(left)} left"
        else:
            text += f" {self.unit}, {rate:.1f} {self.unit}/s"
        return f"{text}, {self.note}" if self.note else text

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"

"""The batches of the next step, made while a GPU works on this one's."""

from __future__ import annotations

from collections.abc import Sequence

from doctune.batches.feed import Feed, Position
from doctune.tensors import Batch


class Ahead:
    """A feed that is asked for at most one step before its turn; where it stands is told as if it never were.

    `position` belongs in a checkpoint: it is that behind the step which was last taken, not behind the one made ahead.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.position: Position = feed.position()
        self._made: tuple[int, Sequence[Batch], Position] | None = None

    def take(self, step: int, progress: float) -> Sequence[Batch]:
        """The batches of one step, as `Feed.window` gives them."""
        if self._made is None or self._made[0] != step:
            self.make(step, progress)
        assert self._made is not None
        _, window, self.position = self._made
        self._made = None
        return window

    def make(self, step: int, progress: float) -> None:
        """Make the batches of one step now, to be taken later."""
        window = self.feed.window(step, progress)
        self._made = (step, window, self.feed.position())

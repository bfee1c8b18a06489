"""Batches that are dear to make are made once and used for several epochs."""

from collections.abc import Callable
from typing import Any

from torch import Generator


class BatchCache:
    """Draws batches, and gives each of them several times before all are drawn anew.

    Only where it was filled from is saved, not the batches: a resumed run draws the same ones again.

    Args:
        draw: makes one batch, from the generators alone.
        generators: all that ``draw`` takes random numbers from, by name.
        batches: how many are kept.
        epochs: how often each is used.
    """

    def __init__(self, draw: Callable[[], Any], generators: dict[str, Generator], batches: int, epochs: int):
        self.draw, self.generators, self.batches, self.epochs = draw, generators, batches, epochs
        self._restart()

    def batch(self) -> Any:
        """The next batch."""
        if self.used == self.epochs * self.batches:
            self._restart()
        place = self.used % self.batches
        if place == len(self.kept):  # made when needed, so that training starts at once
            self.kept.append(self.draw())
        self.used += 1
        return self.kept[place]

    def _restart(self) -> None:
        self.filled_from = {name: generator.get_state() for name, generator in self.generators.items()}
        self.kept: list[Any] = []
        self.used = 0

    def state_dict(self) -> dict:
        """From where it was filled, and how much of it is used."""
        return self.filled_from | {"used": self.used}

    def load_state_dict(self, state: dict) -> None:
        """Draw again from the same random numbers, and stand where the state stood."""
        for name, generator in self.generators.items():
            generator.set_state(state[name])
        self._restart()
        self.used = state["used"]
        self.kept = [self.draw() for _ in range(min(self.used, self.batches))]

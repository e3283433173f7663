"""Batches made by other processes a few steps before they are asked for.

A batch is a function of its step, so who makes it, and when, changes nothing about it. Workers are torch's own
`DataLoader` workers, handed one step after the other in order.
"""

import signal
from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader, Dataset

from apatite.core.errors import ConfigError
from apatite.data.batches import Batch


class Ahead:
    """The batch of a step, for steps that are asked for one after the other.

    Args:
        batches: The batch of a step; workers get copies of it.
        workers: Processes.
        last: The step after the last one that will be asked for.

    Raises:
        ConfigError: fewer than one worker.
    """

    def __init__(self, batches: Callable[[int], Batch], workers: int, last: int) -> None:
        if workers < 1:
            raise ConfigError(f"{workers} data workers", where="feed.workers", fix="use at least 1, or 0 for none")
        self.batches, self.workers, self.last = batches, workers, last
        self._next: int | None = None
        self._made: Iterator[Batch] = iter(())

    def __call__(self, step: int) -> Batch:
        """The batch of that step; another step than the next one starts the workers anew."""
        if step != self._next:
            self.close()
            steps = range(step, self.last)
            self._made = iter(
                DataLoader(
                    _Steps(self.batches, self.last),
                    sampler=steps,
                    batch_size=None,
                    num_workers=self.workers,
                    collate_fn=_as_it_is,  # type: ignore[arg-type]  # items, where there is no batch size
                    worker_init_fn=_leave_signals_to_the_parent,
                )
            )
        self._next = step + 1
        return next(self._made)

    def close(self) -> None:
        """Let the workers go."""
        self._made, self._next = iter(()), None


class _Steps(Dataset[Batch]):
    """Steps as the items of a torch data set."""

    def __init__(self, batches: Callable[[int], Batch], last: int) -> None:
        self.batches, self.last = batches, last

    def __len__(self) -> int:
        return self.last

    def __getitem__(self, step: int) -> Batch:
        return self.batches(step)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _leave_signals_to_the_parent(_worker: int) -> None:
    """A batch system signals all processes of a job; the run still needs its workers to finish its step.

    Workers end when the parent is done with them, or gone.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

"""Batches made by other processes a few steps before they are asked for.

A batch is a function of its step, so who makes it, and when, changes nothing about it. Workers are torch's own
`DataLoader` workers, handed one step after the other in order.
"""

import atexit
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils.data import DataLoader, Dataset

from apatite.core.errors import ApatiteError, ConfigError, TrainingError
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
        self._made: Iterator[Batch | ApatiteError] = iter(())
        # Python asks left-over workers to end by a signal that they do not see, and would then wait for them for ever.
        atexit.register(_close, weakref.ref(self))

    def __call__(self, step: int) -> Batch:
        """The batch of that step; another step than the next one starts the workers anew.

        Raises:
            ApatiteError: what went wrong in a worker, as if it had gone wrong here.
            TrainingError: a worker is gone (`WORKER_KILLED`).
        """
        if step != self._next:
            self._start(step)
        self._next = step + 1
        try:
            made = next(self._made)
        except RuntimeError as error:
            self.close()
            raise TrainingError(
                "a process that makes batches was killed, mostly for lack of memory",
                where=f"step {step}",
                fix="set feed.workers lower or free memory, then run the same command with --resume",
                code="WORKER_KILLED",
            ) from error
        if isinstance(made, ApatiteError):
            self.close()
            raise made
        return made

    def close(self) -> None:
        """Let the workers go."""
        self._made, self._next = iter(()), None

    def _start(self, step: int) -> None:
        self.close()
        loader = DataLoader(
            _Steps(self.batches, self.last),
            sampler=range(step, self.last),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # items, where there is no batch size
            # Its own, or the loader would draw a seed from the generator that the model's draws of this step come from.
            generator=torch.Generator(),
        )
        with _signals_left_to_this_process():
            self._made = iter(loader)


class _Steps(Dataset[Batch | ApatiteError]):
    """Steps as the items of a torch data set; an error is an item, too, since torch would only keep its text."""

    def __init__(self, batches: Callable[[int], Batch], last: int) -> None:
        self.batches, self.last = batches, last

    def __len__(self) -> int:
        return self.last

    def __getitem__(self, step: int) -> Batch | ApatiteError:
        try:
            return self.batches(step)
        except Exception as error:
            failed = error if isinstance(error, ApatiteError) else _unexpected(error, step)
            failed.add_note(traceback.format_exc())  # what --debug shows of the worker
            return failed


def _unexpected(error: Exception, step: int) -> ApatiteError:
    return TrainingError(
        f"no batch could be made ({type(error).__name__}: {error})",
        where=f"step {step}",
        fix="report a bug with what --debug shows",
    )


def _close(ahead: "weakref.ref[Ahead]") -> None:
    if (still_there := ahead()) is not None:
        still_there.close()


def _as_it_is(batch: Batch | ApatiteError) -> Batch | ApatiteError:
    return batch


@contextmanager
def _signals_left_to_this_process() -> Iterator[None]:
    """Processes started in the block never see a request to stop, and their death is no signal to this one.

    A batch system signals all processes of a job, and the run still needs its workers to finish its step; they end
    when it is done with them, or gone. torch would raise wherever the run happens to be when a worker dies; here it is
    found when its batch is asked for.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1))
    of_children = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, of_children or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

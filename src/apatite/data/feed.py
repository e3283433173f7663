"""How batches reach the loop: made in place, made ahead by workers, or made on the device that holds the data.

None of it changes what is drawn; made on another device, or by a process with another number of threads, a batch may
differ in rounding, which is why the choice is part of a run's configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass

from apatite.core.errors import ConfigError
from apatite.data.ahead import Ahead
from apatite.data.batches import Batch


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """How batches are made.

    Attributes:
        workers: Processes that make batches ahead; 0 makes them in the training process.
        on_device: Hold the data, cut crops and augment on the training device. For a GPU with room for the data set:
            no workers, nothing to copy.
    """

    workers: int = 0
    on_device: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"{self.workers} data workers", where="feed.workers", fix="use 0 or more")
        if self.workers and self.on_device:
            raise ConfigError(
                "data held on the device cannot be shared with worker processes",
                where="feed.workers",
                fix="set feed.workers=0, or feed.on_device=false",
            )


def held_on(config: FeedConfig, device: str) -> str:
    """Where the data are held, for `data.sources.open_source`.

    Args:
        config: How batches are made.
        device: Where the run computes.
    """
    return device if config.on_device else "cpu"


def fed(batches: Callable[[int], Batch], config: FeedConfig, last: int) -> Callable[[int], Batch]:
    """The same batches, made as configured.

    Args:
        batches: The batch of a step.
        config: How they are made.
        last: The step after the last one.
    """
    return Ahead(batches, config.workers, last) if config.workers else batches

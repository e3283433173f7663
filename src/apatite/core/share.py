"""Which part of a step's batch one process computes, where several processes share a run."""

from dataclasses import dataclass

from apatite.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Share:
    """Equal, contiguous parts; one process alone has all of it.

    Attributes:
        index: Of this process, from 0.
        of: How many processes.
    """

    index: int = 0
    of: int = 1

    def samples(self, batch: int) -> range:
        """The places in a step's batch that are this process's.

        Args:
            batch: Samples of a step, over all processes.

        Raises:
            ConfigError: the batch cannot be shared equally, so the means over processes would not be means over it.
        """
        if batch % self.of:
            raise ConfigError(
                f"a batch of {batch} cannot be shared equally by {self.of} processes",
                where="batch",
                fix=f"use a multiple of {self.of}",
            )
        size = batch // self.of
        return range(self.index * size, (self.index + 1) * size)


WHOLE = Share()
"""One process alone."""

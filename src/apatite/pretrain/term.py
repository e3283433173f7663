"""What a term of a pre-training method is: one named loss over what a branch made of the views, and its settings."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

from torch import nn

from apatite.core.share import WHOLE, Share
from apatite.core.types import Edges, Scalar
from apatite.losses.critical import CriticalVoxelLossConfig
from apatite.losses.euler import EulerLossConfig
from apatite.losses.overlap import Sum, as_it_is
from apatite.losses.topology import TopologyLossConfig
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.intensity import Window
from apatite.pretrain.view import Seen

Made = Literal["reconstruction", "points", "tokens", "cells", "views", "contrast", "turn"]
"""What a term may ask a branch to make; see `view.Seen`."""
Unit = Literal["normalised", "network"]
"""In what a reconstruction is: each patch by its own mean and spread, or all in the network's unit, -1 to 1."""


@dataclass(frozen=True, kw_only=True)
class TermSettings:
    """What terms can be told; each takes its own.

    Attributes:
        target_floor_hu: Patches whose spread is below this count as flat in a normalised target; 0 is the papers'.
        topology: Of the topological loss.
        euler: Of the loss on Euler-characteristic curves.
        critical: Of the loss at critical voxels.
        contrast: Of the term of that name.
        student_temperature: Of the student's distributions over prototypes.
        share: Which part of a batch this process sees, where several share it.
        add_up: Over those processes.
    """

    target_floor_hu: float = 0.0
    topology: TopologyLossConfig = field(default_factory=TopologyLossConfig)
    euler: EulerLossConfig = field(default_factory=EulerLossConfig)
    critical: CriticalVoxelLossConfig = field(default_factory=CriticalVoxelLossConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    student_temperature: float = 0.1
    share: Share = WHOLE
    add_up: Sum = as_it_is


class Term(nn.Module, ABC):
    """One named loss over what a branch made of a view.

    Attributes:
        makes: What the branch must make for it.
        unit: Of the reconstruction it reads; `None` where it reads none.
        is_taught: Whether it reads what a teacher says.
        is_anchored: Whether it reads what an earlier teacher saw.
    """

    makes: ClassVar[frozenset[Made]] = frozenset()
    unit: ClassVar[Unit | None] = None
    is_taught: ClassVar[bool] = False
    is_anchored: ClassVar[bool] = False

    @abstractmethod
    def loss(self, seen: Seen) -> Scalar:
        """The loss, not yet weighted."""

    def refuse(self, crop: Edges) -> None:
        """Raise at the start of a run what would else be raised when the term first counts.

        Raises:
            ConfigError: crops of these edges, or this installation, are not for it.
        """

    def start(self, seen: Seen) -> Callable[[], Scalar]:
        """Begin what may run beside the networks; the function that is returned gives the loss."""
        return partial(self.loss, seen)


BuildTerm = Callable[[tuple[Window, ...], TermSettings], Term]

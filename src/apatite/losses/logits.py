"""Logits of points against prototypes, a chunk of rows at a time, so that all of them never exist at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apatite.core.types import Projected

PerPrototype = Float[Tensor, "prototypes"]
LogitRows = Float[Tensor, "rows prototypes"]


def widest(device: torch.device) -> torch.dtype:
    """In which long sums are kept: not every device has double precision."""
    return torch.float32 if device.type == "mps" else torch.float64


def exact(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Formats of 16 bits in fp32; fp64 stays."""
    return values if values.dtype == torch.float64 else values.float()


@dataclass(frozen=True, kw_only=True, eq=False)
class Logits:
    """What the logits of rows are made of.

    Attributes:
        projected: Points and prototypes, in fp32 or fp64.
        temperature: The logits are the cosines divided by it,
        offset: and this added; `None` for nothing.
    """

    projected: Projected
    temperature: float
    offset: PerPrototype | None = None

    @classmethod
    def of(cls, projected: Projected, temperature: float, offset: PerPrototype | None = None) -> "Logits":
        """Without a gradient, in fp32 unless the points are in fp64."""
        points = exact(projected.points.detach())
        prototypes = projected.prototypes.detach().to(points.dtype)
        return cls(
            projected=Projected(points=points, prototypes=prototypes),
            temperature=temperature,
            offset=None if offset is None else offset.detach().to(points.dtype),
        )

    def chunks(self, chunk_rows: int) -> Iterator[slice]:
        """All rows in order, so many at a time."""
        for start in range(0, len(self.projected.points), chunk_rows):
            yield slice(start, start + chunk_rows)

    def rows(self, chunk: slice) -> LogitRows:
        """The logits of some rows."""
        scaled, columns = self.projected.points[chunk] / self.temperature, self.projected.prototypes.t()
        return scaled @ columns if self.offset is None else torch.addmm(self.offset, scaled, columns)

    def distribution(self, chunk: slice) -> LogitRows:
        """Their softmax: each row sums to 1."""
        return self.rows(chunk).softmax(dim=1)

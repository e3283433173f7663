r"""Cross-entropy of a student's distribution over prototypes against its teacher's, without ever holding all logits.

With K prototypes there are rows × K logits, twice, and the plain formula keeps several arrays of that size for the way
back. Here a few rows are worked on at a time; as the loss is one number, its gradients, rows × dim and K × dim, are
made on the way forward and only scaled on the way back.

Source: Caron et al. 2021 (arXiv 2104.14294), section 3.1; Zhou et al. 2022 (arXiv 2111.07832), Eq. 2 and 3 for tokens;
    SMIT's released code for both. Sinkhorn centring after Caron et al. 2020 (arXiv 2006.09882), as in DINOv2.
Differs: centring is an offset of the teacher's logits whatever makes it. Sinkhorn's row scaling is the softmax, and its
    column scaling such an offset.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from apatite.core.errors import ConfigError
from apatite.core.types import Projected, Scalar
from apatite.losses.logits import Logits, PerPrototype, exact, widest
from apatite.losses.overlap import Sum, as_it_is

CHUNK_ROWS = 256
"""Rows of logits that exist at a time."""


def distillation_loss(  # noqa: PLR0913 - two temperatures, and what most callers leave out
    student: Projected,
    teacher: Projected,
    offset: PerPrototype,
    *,
    student_temperature: float,
    teacher_temperature: float,
    weights: Float[Tensor, "rows"] | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Scalar:
    r"""The weighted sum over rows of the cross-entropy of the student against the teacher, in nats.

    $$L = \sum_r w_r\, H\big(\mathrm{softmax}(t_r / \tau_t + o),\; \mathrm{softmax}(s_r / \tau_s)\big), \qquad
    H(p, q) = -\sum_k p_k \log q_k$$ with the logits s and t, cosines of points and prototypes, and the offset o of the
    teacher's. The gradient reaches the student's points and prototypes, nothing else.

    Args:
        student: `rows` points; any number, none gives exactly 0 with a gradient of zeros.
        teacher: As many points; row r of the one belongs to row r of the other. The same number of prototypes.
        offset: Of the teacher's logits after division by the temperature: `centre_offset` or `sinkhorn_offset`.
        student_temperature: Above 0.
        teacher_temperature: Above 0.
        weights: $w_r$; the mean over rows by default.
        chunk_rows: Rows of logits that exist at a time; changes the result by rounding alone.

    Computed in fp32 whatever comes in, fp64 stays.

    Raises:
        ConfigError: a temperature that is not above 0.
    """
    _refuse_temperatures(student_temperature, teacher_temperature)
    assert len(student.points) == len(teacher.points), "each row of the student belongs to one of the teacher's"
    with torch.autocast(student.points.device.type, enabled=False):
        points = exact(student.points)
        prototypes = student.prototypes.to(points.dtype)
        work = _Work(
            teacher=Logits.of(teacher, teacher_temperature, offset),
            weights=(
                points.new_full((len(points),), 1 / max(len(points), 1))
                if weights is None
                else weights.detach().to(points.dtype)
            ),
            temperature=student_temperature,
            chunk_rows=chunk_rows,
            wants_points=torch.is_grad_enabled() and points.requires_grad,
            wants_prototypes=torch.is_grad_enabled() and prototypes.requires_grad,
        )
        return _Distil.apply(points, prototypes, work)  # type: ignore[no-any-return]


def mean_logits(projected: Projected) -> PerPrototype:
    """The mean of the logits over the rows, without making them; what a centre is the moving average of.

    No rows have no mean: the result is not a number.
    """
    with torch.no_grad(), torch.autocast(projected.points.device.type, enabled=False):
        return exact(projected.prototypes) @ exact(projected.points).mean(dim=0)


def centre_offset(centre: PerPrototype, teacher_temperature: float) -> PerPrototype:
    r"""The offset of a centre: $-c / \tau_t$, so that $\mathrm{softmax}((t - c) / \tau_t)$.

    Args:
        centre: In the unit of the logits, cosines.
        teacher_temperature: Above 0.
    """
    return -centre.detach() / teacher_temperature


def sinkhorn_offset(
    teacher: Projected,
    teacher_temperature: float,
    *,
    iterations: int = 3,
    add_up: Sum = as_it_is,
    chunk_rows: int = CHUNK_ROWS,
) -> PerPrototype:
    r"""The offset that gives every prototype its share of the batch: after many iterations exactly the same.

    One iteration scales the columns of $e^{t / \tau}$ to equal sums and then its rows to 1; the last scaling of rows is
    the softmax of the loss. Only the columns' scalings are kept, in logarithms.

    Args:
        teacher: Of all rows of this process.
        teacher_temperature: Above 0; points and prototypes of unit length are taken as given, and below 0.003 the
            scaling of prototypes that are far from all rows is cut off.
        iterations: As in DINOv2.
        add_up: Over the processes that share the batch; every process must call it, also with no rows.
        chunk_rows: Rows of logits that exist at a time.

    Returns:
        With mean zero; a constant changes nothing.

    Raises:
        ConfigError: a temperature that is not above 0, or no iteration.
    """
    _refuse_temperatures(teacher_temperature)
    if iterations < 1:
        raise ConfigError(f"{iterations} iterations of Sinkhorn", where="iterations", fix="take 3 as DINOv2 does")
    with torch.no_grad(), torch.autocast(teacher.points.device.type, enabled=False):
        logits = Logits.of(teacher, teacher_temperature)
        sums = logits.projected.points.new_full((len(teacher.prototypes),), -torch.inf)
        for chunk in logits.chunks(chunk_rows):
            sums = torch.logaddexp(sums, logits.rows(chunk).logsumexp(dim=0))
        # No cosine is above 1, so every process can subtract the same and none overflows.
        offset = -_log_of(add_up((sums.to(widest(sums.device)) - 1 / teacher_temperature).exp()))
        for _ in range(iterations - 1):
            # What a prototype has of the rows' distributions; it should be as much as any other's.
            mass = _mass_of(Logits.of(teacher, teacher_temperature, offset - offset.mean()), chunk_rows)
            offset = offset - _log_of(add_up(mass))
        return (offset - offset.mean()).to(sums.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherHealth:
    """How a teacher spreads its rows over the prototypes; all `nan` where it has no rows.

    Attributes:
        entropy: Mean over rows of the entropy of a row's distribution in nats; near ln K the teacher says nothing, at 0
            it is sure.
        mean_entropy: Entropy of the mean distribution; near ln K all prototypes are used, near `entropy` all rows say
            the same.
        used_prototypes: The share of prototypes that are the most probable one of some row.
        largest_share: What the largest prototype has of the mean distribution; 1 / K to 1.
    """

    entropy: Scalar
    mean_entropy: Scalar
    used_prototypes: Scalar
    largest_share: Scalar


def teacher_health(
    teacher: Projected,
    offset: PerPrototype,
    teacher_temperature: float,
    chunk_rows: int = CHUNK_ROWS,
    *,
    add_up: Sum = as_it_is,
) -> TeacherHealth:
    """Look at the distributions that a teacher gives its student.

    Args:
        teacher: Its rows.
        offset: Of its logits.
        teacher_temperature: Above 0.
        chunk_rows: Rows of logits that exist at a time.
        add_up: Over the processes that share the batch.

    Raises:
        ConfigError: a temperature that is not above 0.
    """
    _refuse_temperatures(teacher_temperature)
    with torch.no_grad(), torch.autocast(teacher.points.device.type, enabled=False):
        logits = Logits.of(teacher, teacher_temperature, offset)
        device = teacher.points.device
        mass = torch.zeros(len(teacher.prototypes), dtype=widest(device), device=device)
        times_chosen, of_all = torch.zeros_like(mass), mass.new_zeros(2)
        for chunk in logits.chunks(chunk_rows):
            distribution = logits.distribution(chunk)
            mass += distribution.sum(dim=0)
            times_chosen.index_fill_(0, distribution.argmax(dim=1), 1)
            of_all[0] += torch.special.entr(distribution).sum()
        of_all[1] = len(teacher.points)
        all_of_them = add_up(torch.cat([mass, times_chosen, of_all]))
        mass, times_chosen, of_all = all_of_them.split([len(mass), len(mass), 2])
        entropy, rows = of_all.unbind()
        mean = mass / rows
        return TeacherHealth(
            entropy=entropy / rows,
            mean_entropy=torch.special.entr(mean).sum(),
            used_prototypes=torch.where(rows > 0, (times_chosen > 0).to(mass.dtype).mean(), torch.nan),
            largest_share=mean.max(),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """What the loss is made of beside the student."""

    teacher: Logits
    weights: Float[Tensor, "rows"]
    temperature: float
    chunk_rows: int
    wants_points: bool
    wants_prototypes: bool


class _Distil(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of rows; nothing waits for the device."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, prototypes: Tensor, work: _Work) -> Tensor:
        student = Logits(projected=Projected(points=points, prototypes=prototypes), temperature=work.temperature)
        loss = points.new_zeros(())
        to_points = torch.empty_like(points) if work.wants_points else None
        to_prototypes = torch.zeros_like(prototypes) if work.wants_prototypes else None
        # Of the logits' gradient; given to what is rows × dim rather than to the logits.
        scale = (work.weights / work.temperature)[:, None]
        for chunk in student.chunks(work.chunk_rows):
            wanted = work.teacher.distribution(chunk)
            found = student.rows(chunk).log_softmax(dim=1)
            loss -= work.weights[chunk] @ torch.linalg.vecdot(wanted, found)
            if to_points is None and to_prototypes is None:
                continue
            slope = found.exp_().sub_(wanted)
            if to_points is not None:
                to_points[chunk] = (slope @ prototypes) * scale[chunk]
            if to_prototypes is not None:
                to_prototypes.addmm_(slope.t(), points[chunk] * scale[chunk])
        ctx.save_for_backward(to_points, to_prototypes)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        to_points, to_prototypes = (None if held is None else held * gradient for held in ctx.saved_tensors)
        return to_points, to_prototypes, None


def _mass_of(logits: Logits, chunk_rows: int) -> PerPrototype:
    """The sum of the rows' distributions."""
    device = logits.projected.points.device
    mass = torch.zeros(len(logits.projected.prototypes), dtype=widest(device), device=device)
    for chunk in logits.chunks(chunk_rows):
        mass += logits.distribution(chunk).sum(dim=0)
    return mass


def _log_of(sums: PerPrototype) -> PerPrototype:
    """Finite also where nothing is left of a sum."""
    return sums.clamp(min=torch.finfo(sums.dtype).tiny).log()


def _refuse_temperatures(*temperatures: float) -> None:
    for temperature in temperatures:
        if not temperature > 0:
            raise ConfigError(
                f"a temperature of {temperature:g}", where="temperature", fix="take one above 0, such as 0.1"
            )

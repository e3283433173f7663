"""One step of SMIT against the structure of its released script, and its heads and losses against lightly's.

A step: student, teacher, heads, losses, gradients, centres, the teacher's moving average; no optimiser, which both
share. Both sides: the same encoder, heads, prototypes, views, 70 % of the cells hidden, fp32, the same threads. Ours
also cuts the views and draws what is hidden, projects hidden cells alone, and makes logits some rows at a time; the
released script projects every cell of both networks and keeps all logits, and its attention keeps its scores (it is
MONAI's here). Heads and losses alone: hidden cells and whole views of tokens that are given, at both sides; "released"
is every cell again. Moving average: all weights of a teacher at once against a Python loop that gathers them by name.
Sides take turns; a ratio is the median over rounds. Memory is the peak of a fresh process that does two steps, less
what it held before the first. The limit is the roofline of benchmarks/swin_limits.py with the products, streams and
exponentials that this machine did in this run.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from apatite.core.types import Edges, Projected
from apatite.data.batches import Batch
from apatite.data.hiding import num_visible
from apatite.losses.distillation import centre_offset, distillation_loss, mean_logits
from apatite.nn.attention import AttentionKernel
from apatite.nn.linear import has_onednn
from apatite.nn.projection import ProjectionConfig
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.presets import SWINS
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from distillation_peers import Released, Tokens, every_cell_step, follow_by_name, lightly_parts, lightly_step
from harness import Benchmark, Memory, compare, median, peak_memory, ratio_of
from smit_reference import Rules, Shape
from swin_limits import floor_s, head_work, step_floor_s

METHOD = METHODS["smit"]
STEPS = 1000
STEP = 500
"""In the middle of a run: every weight learns."""
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
Step = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model, the crop of a view, samples in a batch, prototypes, and rounds that count."""

    model: str
    crop: Edges
    batch: int
    prototypes: int
    rounds: int = 5

    def encoder(self) -> SwinConfig:
        """The encoder's config."""
        return SWINS[self.model].encoder(crop=self.crop)

    def peer(self) -> Shape:
        """The same dimensions for the peer."""
        ours = self.encoder()
        return Shape(
            channels=len(ours.windows_hu),
            patch=ours.patch,
            dim=ours.dim,
            depths=ours.depths,
            heads=ours.heads,
            window=ours.window,
            prototypes=self.prototypes,
        )

    @property
    def hidden(self) -> int:
        """Hidden cells of a view."""
        cells = self.encoder().num_tokens
        assert METHOD.hiding.ratio is not None
        return cells - num_visible(cells, METHOD.hiding.ratio)


SIZES = {
    "toy": Size(model="swin-xs", crop=(32, 32, 32), batch=2, prototypes=512, rounds=3),
    "small": Size(model="swin-xs", crop=(48, 48, 48), batch=4, prototypes=4096),
    "smit": Size(model="swin-smit", crop=(96, 96, 96), batch=1, prototypes=8192, rounds=3),
}
BATCHES = {"toy": 2, "small": 4, "smit": 6}
"""Of heads and losses alone; the released script has batches of 6."""


def our_task(name: str, by_onednn: bool) -> PretrainTask:
    """The package's own task at that size."""
    size = SIZES[name]
    torch.manual_seed(0)
    shapes = Shapes(encoder=size.encoder(), projection=ProjectionConfig(prototypes=size.prototypes))
    return PretrainTask(METHOD, shapes, AttentionKernel(by_onednn=by_onednn), 0, steps=STEPS).train()


def our_step(name: str, by_onednn: bool) -> Step:
    """A step as the training loop does it, but for the optimiser."""
    size, task = SIZES[name], our_task(name, by_onednn)
    encoder = size.encoder()
    parent = METHOD.views.parent_of(encoder.crop, encoder.cell)
    images = 200 * torch.randn(size.batch, 1, *parent, generator=torch.Generator().manual_seed(0))
    batch = Batch(case_ids=tuple(map(str, range(size.batch))), images_hu=images)

    def step() -> Tensor:
        task.zero_grad(set_to_none=True)
        loss = torch.stack(list(task.losses(batch, STEP).values())).sum()
        loss.backward()
        task.after(STEP)
        return loss.detach()

    return step


def released_step(name: str) -> Step:
    """The same with the peer, given two views of as many samples with as many hidden cells."""
    size = SIZES[name]
    torch.manual_seed(0)
    assert METHOD.teaching is not None
    released = Released(size.peer(), Rules(tap=METHOD.teaching.tap))
    views, cells = 2 * size.batch, size.encoder().num_tokens
    images = torch.randn(views, 1, *size.crop).clamp(-1, 1)
    is_hidden = torch.rand(views, cells).argsort(dim=1).argsort(dim=1) < size.hidden
    return lambda: released.step(images, is_hidden)


def our_heads(name: str, by_onednn: bool) -> Step:
    """Hidden cells and whole views through the package's heads and losses, and the gradient."""
    size, tokens = heads_size(name), drawn_tokens(name)
    torch.manual_seed(0)
    config = ProjectionConfig(prototypes=size.prototypes)
    build = partial(config.build, size.encoder().tap_dim, by_onednn=by_onednn)
    heads = nn.ModuleDict({part: build() for part in ("cells", "whole")})
    teachers = copy.deepcopy(heads).requires_grad_(requires_grad=False)
    centres = {part: torch.zeros(size.prototypes) for part in heads}
    loss_of = partial(
        distillation_loss, student_temperature=STUDENT_TEMPERATURE, teacher_temperature=TEACHER_TEMPERATURE
    )

    def between(part: str, student: Tensor, teacher: Tensor) -> Tensor:
        taught: Projected = teachers[part](teacher)
        offset = centre_offset(centres[part], TEACHER_TEMPERATURE)
        centres[part].lerp_(mean_logits(taught), 0.1)
        return loss_of(heads[part](student), taught, offset)

    def step() -> Tensor:
        heads.zero_grad(set_to_none=True)
        tokens.student.grad = None
        cells = between("cells", tokens.student[tokens.is_hidden], tokens.teacher[tokens.is_hidden])
        other = tokens.teacher.mean(dim=1).roll(size.batch, dims=0)
        loss = 0.1 * cells + 0.1 * between("whole", tokens.student.mean(dim=1), other)
        loss.backward()
        return loss.detach()

    return step


def lightly_heads(name: str) -> Step:
    """The same with lightly."""
    torch.manual_seed(0)
    return lightly_step(heads_size(name).peer(), drawn_tokens(name))


def released_heads(name: str) -> Step:
    """The same as released."""
    torch.manual_seed(0)
    return every_cell_step(heads_size(name).peer(), drawn_tokens(name))


def heads_size(name: str) -> Size:
    """The size with the batch of heads and losses alone."""
    return replace(SIZES[name], batch=BATCHES[name])


def drawn_tokens(name: str) -> Tokens:
    """Two views of each sample."""
    size = heads_size(name)
    encoder = size.encoder()
    return Tokens.drawn(2 * size.batch, encoder.num_tokens, encoder.tap_dim, size.hidden)


def our_average(name: str, by_onednn: bool) -> Callable[[], object]:
    """The teacher's step alone."""
    task = our_task(name, by_onednn)
    assert task.teacher is not None
    return partial(task.teacher.after, task.branch("student"), STEP)


def released_average(name: str) -> Callable[[], object]:
    """The same weights in a Python loop."""
    task = our_task(name, by_onednn=False)
    assert task.teacher is not None
    return partial(follow_by_name, task.teacher.branch, task.branch("student"), 0.996)


def learned_by_a_teacher(name: str) -> int:
    """Weights that follow a student."""
    teacher = our_task(name, by_onednn=False).teacher
    assert teacher is not None
    return sum(weight.numel() for weight in teacher.branch.parameters())


def faster_linear(bench: Benchmark) -> bool:
    """Whether a run would take oneDNN for its linear layers: as it does, a few steps are timed."""
    if not has_onednn():
        return False
    seconds = compare({str(way): our_step("toy", way) for way in (False, True)}, repeats=3 if bench.quick else 7)
    return median(seconds["True"]) < median(seconds["False"])


Makers = dict[str, tuple[Callable[..., Callable[[], object]], tuple[Any, ...]]]


def measure(bench: Benchmark, what: str, name: str, makers: Makers, floor: float) -> None:
    """One table's part: every side's time and memory, and ours against each."""
    size = heads_size(name) if what == "heads and losses" else SIZES[name]
    memory = {side: peak_memory(make, *given, threads=bench.threads) for side, (make, given) in makers.items()}
    fitting = {side: make(*given) for side, (make, given) in makers.items() if memory[side] is not None}
    seconds = compare(fitting, 1 if bench.quick else size.rounds)
    for side in makers:
        taken = seconds.get(side)
        bench.row(
            what=what,
            size=name,
            views=2 * size.batch,
            cells=size.encoder().num_tokens,
            prototypes=size.prototypes,
            side=side,
            ms=1e3 * median(taken) if taken else None,
            samples_per_s=size.batch / median(taken) if taken and what != "moving average" else None,
            peak_MiB_added=_mib(memory[side]),
            limit_fraction=floor / median(taken) if taken and side == "ours" else None,
            rounds=len(taken) if taken else 0,
            note="" if taken else "did not fit in memory",
        )
    ours = memory["ours"]
    for side in seconds.keys() - {"ours"}:
        key, theirs = f"{what}, {name}, {side}".replace(" ", "_").replace(",", ""), memory[side]
        bench.ratio(key, ratio_of(seconds, side))
        if ours and theirs and what != "moving average":
            bench.ratio(f"{key}_memory", theirs.added_bytes / max(ours.added_bytes, 1))


def _mib(memory: Memory | None) -> float | None:
    return memory.added_bytes / 2**20 if memory else None


def floors(bench: Benchmark, name: str) -> dict[str, float]:
    """Seconds that each part must take."""
    size, heads = SIZES[name], heads_size(name)
    shape, weights = size.peer(), learned_by_a_teacher(name)
    rows = head_work(shape, heads.hidden + 1, heads.hidden + 1) * (2 * heads.batch)
    return {
        "step": step_floor_s(shape, size.crop, 2 * size.batch, size.hidden, weights, bench.limits),
        "heads and losses": floor_s(rows, rows, 0, bench.limits),
        "moving average": 2 * 4 * weights / bench.limits.stream,
    }


def has_lightly(bench: Benchmark) -> bool:
    """Whether its losses can be compared with."""
    try:
        lightly_parts()
    except ImportError as error:
        how = "pip install --no-deps lightly, with a torchvision for this torch"
        bench.skip("lightly", f"{error} ({how})")
        return False
    return True


def main(arguments: list[str] | None = None) -> None:
    """All sizes."""
    bench = Benchmark.start(
        __doc__,
        __file__,
        packages=("monai", "lightly", "numpy"),
        arguments=arguments,
        options=lambda parser: parser.add_argument(
            "--sizes", nargs="*", choices=SIZES, help="only these (default small and smit; --quick: toy)"
        ),
    )
    by_onednn, with_lightly = faster_linear(bench), has_lightly(bench)
    bench.facts["linear_layers"] = "oneDNN" if by_onednn else "torch's"
    for name in bench.options.sizes or (("toy",) if bench.quick else ("small", "smit")):
        floor = floors(bench, name)
        step: Makers = {"ours": (our_step, (name, by_onednn)), "released": (released_step, (name,))}
        heads: Makers = {"ours": (our_heads, (name, by_onednn)), "released": (released_heads, (name,))}
        if with_lightly:
            heads["lightly"] = lightly_heads, (name,)
        average: Makers = {"ours": (our_average, (name, by_onednn)), "loop": (released_average, (name,))}
        for what, makers in {"step": step, "heads and losses": heads, "moving average": average}.items():
            measure(bench, what, name, makers, floor[what])
    bench.finish()


if __name__ == "__main__":
    main()

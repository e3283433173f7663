"""The rows: each is one training run and what it scored, small enough to be done in one sitting.

They stand in the order in which they prove most: first whether the peer is no straw man, then the pair at ten labels,
the cheapest remedy, the pair at forty, the peer, the second seed; then the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fewshot.variants import FINETUNE_MINUTES, STANDARD, VARIANTS

LABELS = (10, 40)
SEEDS = (0, 1)
PEER_CHECK = "peer-check"
PEER_CHECK_LABELS = 60
PEER_CHECK_S = 600.0
REMEDIES = tuple(name for name in VARIANTS if name != STANDARD)
EVALUATION_MINUTES = 1.5
Kind = Literal["pretrain", "scratch", "tuned", "peer"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run.

    Attributes:
        name: Of its JSON file and of its run folder.
        kind: `pretrain`, ours from `scratch`, ours `tuned` from an encoder, or the `peer`.
        seed: Decides the labelled cases, the weights and every draw.
        labels: Labelled cases; 0 for pre-training.
        variant: A key of `VARIANTS`.
        minutes: Expected, on two quiet cores.
        encoder: The pre-training row that a tuned row begins from.
        as_long_as: Rows whose training time together is this row's; a row of a stated number of steps has none.
        budget_s: Training time of a peer that is compared with no row of ours.
    """

    name: str
    kind: Kind
    seed: int
    labels: int = 0
    variant: str = STANDARD
    minutes: float
    encoder: str = ""
    as_long_as: tuple[str, ...] = ()
    budget_s: float = 0.0

    @property
    def needs(self) -> tuple[str, ...]:
        """Rows that have to be done before."""
        return tuple(dict.fromkeys([name for name in (self.encoder, *self.as_long_as) if name]))


def name_of(kind: str, seed: int, labels: int = 0, variant: str = STANDARD) -> str:
    """For example `tuned-embedding-10-s0`."""
    parts = [kind, "" if variant == STANDARD else variant, str(labels) if labels else "", f"s{seed}"]
    return "-".join(part for part in parts if part)


def encoder_of(variant: str, seed: int) -> str:
    """The pre-training row of a variant: the standard's where it has none of its own."""
    return name_of("pretrain", seed, variant=STANDARD if VARIANTS[variant].pretraining is None else variant)


def scratch_of(variant: str, seed: int, labels: int) -> str:
    """The twin from scratch of a variant: the standard's where network and rates are the same."""
    return name_of("scratch", seed, labels, variant if VARIANTS[variant].own_scratch else STANDARD)


def _pretrain(seed: int, variant: str) -> Row:
    name = name_of("pretrain", seed, variant=variant)
    return Row(name=name, kind="pretrain", seed=seed, variant=variant, minutes=VARIANTS[variant].pretrain_minutes)


def _pair(seed: int, labels: int, variant: str = STANDARD) -> Iterator[Row]:
    """From scratch and pre-trained, with what each needs."""
    minutes, encoder = VARIANTS[variant].finetune_minutes, encoder_of(variant, seed)
    if VARIANTS[variant].own_scratch:
        name = name_of("scratch", seed, labels, variant)
        yield Row(name=name, kind="scratch", seed=seed, labels=labels, variant=variant, minutes=minutes)
    if VARIANTS[variant].pretraining is not None:
        yield _pretrain(seed, variant)
    yield Row(
        name=name_of("tuned", seed, labels, variant),
        kind="tuned",
        seed=seed,
        labels=labels,
        variant=variant,
        minutes=minutes,
        encoder=encoder,
    )


def _equal_time(kind: Literal["scratch", "peer"], seed: int, labels: int) -> Row:
    """A row that trains as long as pre-training and fine-tuning together took."""
    together = (encoder_of(STANDARD, seed), name_of("tuned", seed, labels))
    return Row(
        name=name_of(f"{kind}-equal-time", seed, labels),
        kind=kind,
        seed=seed,
        labels=labels,
        minutes=VARIANTS[STANDARD].pretrain_minutes + FINETUNE_MINUTES,
        # Steps of ours are chosen by the pace of the short run from scratch.
        as_long_as=(*together, name_of("scratch", seed, labels)) if kind == "scratch" else together,
    )


def _ordered() -> Iterator[Row]:
    yield Row(
        name=PEER_CHECK,
        kind="peer",
        seed=0,
        labels=PEER_CHECK_LABELS,
        minutes=PEER_CHECK_S / 60 + EVALUATION_MINUTES,
        budget_s=PEER_CHECK_S,
    )
    yield from _pair(0, 10)
    yield from _pair(0, 10, "embedding")
    yield from _pair(0, 40)
    for labels in LABELS:
        yield _equal_time("peer", 0, labels)
    for labels in LABELS:
        yield from _pair(1, labels)
    for labels in LABELS:
        yield _equal_time("scratch", 0, labels)
    for variant in REMEDIES:
        yield from _pair(0, 10, variant)
    for labels in LABELS:
        yield _equal_time("peer", 1, labels)
        yield _equal_time("scratch", 1, labels)
    for variant in REMEDIES:
        yield from _pair(0, 40, variant)
        for labels in LABELS:
            yield from _pair(1, labels, variant)


ROWS: dict[str, Row] = {row.name: row for row in _ordered()}
"""By name, each at its first place in the order."""

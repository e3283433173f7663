"""How published data sets are divided, so that figures can stand beside those of the papers.

What is held out is `test` and is never trained on, not even without labels: pre-training on it would be a leak. All
other cases are `finetune`, which serves pre-training as well, but for a few of them that become `development`.

Source: the ids held out are those of the public code of UNETR++ (Shaker et al. 2024, arXiv 2212.04497); for BTCV, which
that code does not divide, the last six cases, as in the data list that goes with the public code of UNETR and Swin
UNETR. Which division the topology-aware MAE (arXiv 2406.10519) used is not known.
Differs: that code watches its training on what it holds out, and so chooses on it. Here development is a part of the
training cases, taken at even distances in the order of their names, so training has a tenth fewer than theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from apatite.core.errors import DataError
from apatite.io.nifti import stem

MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class PublishedSplit:
    """The division of one data set, by patient.

    Attributes:
        title: What it is called.
        patients: All that have labels, sorted.
        test: Those held out.
        unused: Those that the source neither trains on nor judges.
        num_development: So many of the others choose weights and thresholds.
        channels: Of each image, by name, where there are several; one is taken (`apatite index --channel`).
        trusts_pixdim: Where the sform of a file contradicts its `pixdim`, the latter is right (`io.voxel_sizes`).
    """

    title: str
    patients: tuple[str, ...]
    test: frozenset[str]
    unused: frozenset[str] = frozenset()
    num_development: int
    channels: tuple[str, ...] = ()
    trusts_pixdim: bool = False

    def splits(self) -> dict[str, str]:
        """The split of each patient."""
        trained = [name for name in self.patients if name not in self.test | self.unused]
        places = even_places(len(trained), self.num_development)
        splits = dict.fromkeys(trained, "finetune") | dict.fromkeys((trained[place] for place in places), "development")
        return splits | dict.fromkeys(self.test, "test") | dict.fromkeys(self.unused, "unused")

    def require(self, found: Iterable[str], where: str) -> None:
        """Refuse other patients than the published ones: their figures would stand beside those of the papers.

        Raises:
            DataError: one is missing or unknown (`SPLIT_DIFFERS`); the message names them.
        """
        there, listed = set(found), set(self.patients)
        for names, what in ((listed - there, "lacks"), (there - listed, "holds, beside the published cases,")):
            if names:
                raise DataError(
                    f"{what} {named(names)}; {self.title} has {len(listed)} labelled patients",
                    where=where,
                    fix="complete the data set, or index it with another --layout and a split of your own",
                    code="SPLIT_DIFFERS",
                )


def refuse_damaged(failures: Sequence[Mapping[str, Any]], strange_labels: Iterable[int], where: str) -> None:
    """Refuse files that cannot be used, and labels that the data set does not have.

    Raises:
        DataError: there is one (`SPLIT_DIFFERS`, `BAD_LABEL`); the message names it.
    """
    if failures:
        raise DataError(
            f"cannot use {named(bad['case_id'] for bad in failures)}; the first: {failures[0]['what']}",
            where=where,
            fix="take the files as they were distributed, or index them with another --layout",
            code="SPLIT_DIFFERS",
        )
    if values := sorted(strange_labels):
        raise DataError(
            f"has label maps with the values {values}, which the data set does not have",
            where=where,
            fix="take the files as they were distributed, or index them with another --layout",
            code="BAD_LABEL",
        )


def only_one_each(files: Iterable[Path], where: Path) -> dict[str, Path]:
    """Files by the name of their case.

    Raises:
        DataError: two are of one case (`SPLIT_DIFFERS`).
    """
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(stem(file), file)
        if other != file:
            raise DataError(
                f"holds {other.relative_to(where)} and {file.relative_to(where)}, which are one case",
                where=str(where),
                fix="keep the one that was distributed",
                code="SPLIT_DIFFERS",
            )
    return found


def even_places(length: int, count: int) -> list[int]:
    """`count` places in a sequence at even distances, none of them at an end."""
    return [(2 * number + 1) * length // (2 * count) for number in range(count)]


def named(names: Iterable[str]) -> str:
    """Names for a message, sorted; the first few of many."""
    ordered = sorted(names)
    more = len(ordered) - MOST_NAMED
    return ", ".join(ordered[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _patients(pattern: str, numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(pattern.format(number) for number in sorted(numbers))


def _numbers(text: str) -> Sequence[int]:
    return [int(word) for word in text.split()]


_ABDOMEN: Final = (*range(1, 11), *range(21, 41))
_LUNG_TRAINED: Final = _numbers(
    "4 5 6 9 10 14 15 16 18 20 22 23 26 28 29 31 33 34 36 37 38 41 42 43 45 47 49 51 53 54 55 57 59 61 64 65 66 69 71 "
    "73 74 75 78 79 80 84 86 92 95 96"
)
_LUNG_HELD_OUT: Final = _numbers("1 3 25 27 44 46 48 58 62 70 81 83 93")
_BRATS_HELD_OUT: Final = _numbers(
    "11 12 18 20 21 28 29 32 34 36 41 47 49 53 56 57 69 71 89 90 92 95 103 105 106 107 109 118 145 147 156 161 172 176 "
    "181 194 196 198 204 205 209 220 221 227 234 235 245 250 256 257 260 269 270 271 281 282 287 289 291 292 310 314 "
    "323 327 330 333 337 346 350 352 361 382 397"
)
_BRATS_NEITHER: Final = _numbers(
    "58 59 76 77 99 113 114 124 139 151 152 157 190 240 242 295 305 325 331 362 389 425 432 450"
)

PUBLISHED: Final[dict[str, PublishedSplit]] = {
    "synapse": PublishedSplit(
        title="Synapse (multi-atlas abdomen, 18 to train on, 12 held out)",
        patients=_patients("img{:04d}", _ABDOMEN),
        test=frozenset(_patients("img{:04d}", _numbers("1 2 3 4 8 22 25 29 32 35 36 38"))),
        num_development=2,
    ),
    "btcv": PublishedSplit(
        title="BTCV (multi-atlas abdomen, 24 to train on, 6 held out)",
        patients=_patients("img{:04d}", _ABDOMEN),
        test=frozenset(_patients("img{:04d}", range(35, 41))),
        num_development=2,
    ),
    "acdc": PublishedSplit(
        title="ACDC (80 patients to train on, 20 held out)",
        patients=_patients("patient{:03d}", range(1, 101)),
        test=frozenset(_patients("patient{:03d}", _numbers("2 3 8 9 12 14 17 24 42 48 49 53 55 64 67 79 81 88 92 95"))),
        num_development=10,
        trusts_pixdim=True,
    ),
    "msd_lung": PublishedSplit(
        title="MSD Task06 Lung (50 to train on, 13 held out)",
        patients=_patients("lung_{:03d}", (*_LUNG_TRAINED, *_LUNG_HELD_OUT)),
        test=frozenset(_patients("lung_{:03d}", _LUNG_HELD_OUT)),
        num_development=5,
    ),
    "msd_brats": PublishedSplit(
        title="MSD Task01 BrainTumour (387 to train on, 73 held out, 24 in neither list)",
        patients=_patients("BRATS_{:03d}", range(1, 485)),
        test=frozenset(_patients("BRATS_{:03d}", _BRATS_HELD_OUT)),
        unused=frozenset(_patients("BRATS_{:03d}", _BRATS_NEITHER)),
        num_development=38,
        channels=("FLAIR", "T1w", "t1gd", "T2w"),
    ),
}
"""By the name of the layout."""

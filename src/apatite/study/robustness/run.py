"""Measure how models hold when scans get worse: every labelled case of a split, as it is and at every level."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apatite.core.config import dump
from apatite.core.errors import ConfigError
from apatite.core.watch import Watch, unwatched
from apatite.io.case import Case
from apatite.io.store import Prepared
from apatite.study.contestants import Contestant, contestant_names, open_model
from apatite.study.robustness.config import STANDARD, RobustnessConfig
from apatite.study.robustness.curves import Curve, curves
from apatite.study.robustness.judge import Ladders, held_out_of, judge_case, titles_of
from apatite.study.robustness.method import MethodCheck, check_method, is_checkable, summarise_method
from apatite.study.robustness.original import Original, read_original
from apatite.study.robustness.rows import LevelRow, MethodRow, read_rows, write_rows
from apatite.study.robustness.strangers import Stranger, strangers
from apatite.study.robustness.validated import ValidatedRange, validated_ranges
from apatite.study.run import labelled_cases, log_look


@dataclass(frozen=True, kw_only=True, eq=False)
class Robustness:
    """All that was found.

    Attributes:
        rows: What everything else was computed from.
        config: How it was done.
        ladders: Ways and levels.
        label_names: Label value to name.
        digests: Model to the digest of its package.
        data_digest: Of the manifest that was prepared.
        split: Which cases.
        domains: Where they come from.
        num_cases: In the split, with labels.
        left_out: Way to how many of them have none of its levels, for example because their slices are too thick.
        curves: Per way, label and model.
        ranges: Model and label to the ranges in which it holds.
        strangers: Of models that held something out of training.
        method: How far degrading is from scanning again; empty where nothing was scanned again.
    """

    rows: tuple[LevelRow, ...]
    config: RobustnessConfig
    ladders: Ladders
    label_names: Mapping[int, str]
    digests: Mapping[str, str]
    data_digest: str
    split: str
    domains: tuple[str, ...]
    num_cases: int
    left_out: Mapping[str, int]
    curves: tuple[Curve, ...]
    ranges: Mapping[tuple[str, int], tuple[ValidatedRange, ...]]
    strangers: tuple[Stranger, ...]
    method: tuple[MethodCheck, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Titles, in the order in which they were given."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    @property
    def labels(self) -> tuple[int, ...]:
        """Label values that have rows."""
        return tuple(sorted({row.label for row in self.rows}))

    def curves_of(self, by: str, label: int) -> list[Curve]:
        """One curve per model."""
        return [curve for curve in self.curves if (curve.by, curve.label) == (by, label)]


def robustness(
    models: Sequence[Path],
    prepared: Prepared,
    out: Path,
    split: Literal["development", "test"] = "test",
    *,
    config: RobustnessConfig = STANDARD,
    watch: Watch = unwatched,
) -> Robustness:
    """Look at model packages, or at runs that hold one, on worse and worse scans.

    Models only: predictions that lie on disk belong to the scans as they are, and would look perfectly robust.

    Args:
        models: In the order of the tables.
        prepared: Its original scans and labels must still be where they were.
        out: Folder in which `rows/` grows, one file per model and case; what is there already is not done again.
        split: Which cases.
        config: How.
        watch: Shows progress.

    Raises:
        ConfigError: a way or level without sense, two models of one name, other labels than the data, or no CT.
        DataError: the split holds no labelled case (`EMPTY_SPLIT`), a case cannot be read or scanned again, or the
            folder holds rows of another run.
        ModelError: a folder holds no model.
    """
    if prepared.intensity != "hu":
        raise ConfigError(
            "the ways in which scans get worse are those of CT, in HU",
            where=str(prepared.folder),
            fix="use data that were prepared with intensity=hu",
        )
    ladders = config.ladders(has_region=prepared.kind == "region")
    cases = labelled_cases(prepared, split)
    contestants = [open_model(path, name) for path, name in zip(models, contestant_names(models), strict=True)]
    if not contestants:
        raise ConfigError("no model was given", fix="give one or more with -m")
    for contestant in contestants:
        contestant.refuse_other_labels(prepared)
    for contestant in contestants:
        log_look(contestant.folder, out, split, f"robustness {contestant.name} {contestant.digest}")
    rows, method = [], []
    for case in watch(cases, "degrading", len(cases)):
        found = _rows_of_case(case, contestants, prepared, out, (ladders, config))
        rows += found[0]
        method += found[1]
    titles = {title: contestant for contestant in contestants for title in titles_of(contestant)}
    # The first case may lack some of the ways, so the rows do not say their order.
    drawn = tuple(sorted(curves(rows, config.intervals), key=lambda curve: list(ladders).index(curve.by)))
    return Robustness(
        rows=tuple(rows),
        config=config,
        ladders=ladders,
        label_names=prepared.manifest.label_names,
        digests={contestant.name: contestant.digest for contestant in contestants},
        data_digest=str(prepared.about["manifest_sha256"]),
        split=split,
        domains=tuple(sorted({case.domain for case in cases})),
        num_cases=len(cases),
        left_out=_left_out(rows, ladders, len(cases)),
        curves=drawn,
        ranges={
            (title, label): validated_ranges(
                [curve for curve in drawn if (curve.model, curve.label) == (title, label)], ladders, config.criteria
            )
            for title in titles
            for label in sorted({row.label for row in rows})
        },
        strangers=strangers(rows, {title: held_out_of(c) for title, c in titles.items()}, config.intervals),
        method=summarise_method(method, config.intervals),
    )


def _rows_of_case(
    case: Case,
    contestants: Sequence[Contestant],
    prepared: Prepared,
    out: Path,
    how: tuple[Ladders, RobustnessConfig],
) -> tuple[list[LevelRow], list[MethodRow]]:
    """Read the rows that are there, make the others; the scan is read once, and only if something is missing."""
    ladders, config = how
    opened: list[Original] = []

    def original() -> Original:
        if not opened:
            opened.append(read_original(prepared, case, rescan=config.rescan))
        return opened[0]

    rows: list[LevelRow] = []
    for contestant in contestants:
        path, key = out / "rows" / contestant.name / f"{case.case_id}.json", _key(contestant.digest, prepared, how)
        found = read_rows(path, LevelRow, key)
        if found is None:
            found = list(judge_case(contestant, original(), ladders, config))
            write_rows(path, found, key)
        rows += found
    return rows, _method_rows(case, original, prepared, out, how) if config.rescan else []


def _method_rows(
    case: Case,
    original: Callable[[], Original],
    prepared: Prepared,
    out: Path,
    how: tuple[Ladders, RobustnessConfig],
) -> list[MethodRow]:
    """How far degrading is from scanning again, for the levels that exist both ways."""
    ladders, config = how
    path, key = out / "rows" / "method" / f"{case.case_id}.json", _key("", prepared, how)
    found = read_rows(path, MethodRow, key)
    if found is None:
        found = [
            check_method(original(), by, step, config.seed)
            for by, ladder in ladders.items()
            if is_checkable(by) and not (by == "thickness" and original().thickness_mm > config.thin_mm)
            for step in ladder
            if step.fits(original().scan.stack)
        ]
        write_rows(path, found, key)
    return found


def _key(digest: str, prepared: Prepared, how: tuple[Ladders, RobustnessConfig]) -> dict[str, Any]:
    """What rows depend on: model, data, levels; not how intervals are computed or what counts as holding."""
    ladders, config = how
    settings = {key: value for key, value in dump(config).items() if key in ("rescan", "thin_mm", "reading", "seed")}
    levels = {by: [step.level for step in ladder] for by, ladder in ladders.items()}
    return {"model": digest, "data": str(prepared.about["manifest_sha256"]), "levels": levels, **settings}


def _left_out(rows: Sequence[LevelRow], ladders: Ladders, num_cases: int) -> dict[str, int]:
    return {by: num_cases - len({row.case_id for row in rows if row.by == by}) for by in ladders}

"""Cases are split by patient and stratified by vendor; development and test hold one series per patient.

Source: Jin et al. 2025 (arXiv 2507.01744): pre-training on 80 % of the patients, labels for a tenth of them, 10 %
development, 10 % test.
Differs: where only some patients have labels, development and test are drawn from those; the others pre-train.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from apatite.core.errors import ConfigError, DataError
from apatite.core.rng import generator
from apatite.io.manifest import Case, Manifest

Patients = dict[str, list[Case]]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How to split.

    Attributes:
        development: Fraction of the labelled patients (of all patients where none is labelled).
        test: Fraction of the same.
        labelled_fraction: Fraction of the labelled training patients that becomes `finetune`, one series each.
        labelled: That number of cases instead of a fraction.
        folds: Divide all patients outside test into this many folds; 0 for none.
        fold: The fold that is `development` when there are folds.
        keep_splits: Keep the splits that cases have already, and only choose `finetune` among `pretrain`.
        seed: Of every draw.
    """

    development: float = 0.1
    test: float = 0.1
    labelled_fraction: float = 0.1
    labelled: int | None = None
    folds: int = 0
    fold: int = 0
    keep_splits: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            min(self.development, self.test) < 0
            or self.development + self.test >= 1
            or not 0 < self.labelled_fraction <= 1
        ):
            raise ConfigError("the fractions leave no patient to train on", fix="keep development + test below 1")
        if self.labelled is not None and self.labelled < 1:
            raise ConfigError(f"{self.labelled} labelled cases cannot be chosen", fix="use at least 1")
        if self.folds == 1 or self.folds < 0 or not 0 <= self.fold < max(self.folds, 1):
            raise ConfigError(
                f"fold {self.fold} of {self.folds} does not exist", fix="use --folds 2 or more and --fold below it"
            )
        if self.folds and self.keep_splits:
            raise ConfigError("folds would change the splits that are to be kept", fix="choose one of the two")


def split_manifest(manifest: Manifest, config: SplitConfig) -> Manifest:
    """Give every case its split.

    Args:
        manifest: Cases that are `unused` stay so, and those with a verdict become so.
        config: Sizes and seed.

    Returns:
        The same cases in the same order, with `split` (and `fold`) set.

    Raises:
        DataError: a split that was asked for stays empty, or there are fewer labelled cases than asked for.
    """
    manifest = replace(
        manifest, cases=tuple(replace(case, split="unused") if case.verdict else case for case in manifest.cases)
    )
    usable = [case for case in manifest.cases if case.split != "unused"]
    if not usable:
        raise DataError(
            "no usable case is left to split", fix="correct the files that could not be read", code="EMPTY_SPLIT"
        )
    chosen = _kept(usable) if config.keep_splits else _fresh(usable, config)
    by_id = {case.case_id: case for case in _choose_finetune(chosen, config)}
    result = replace(manifest, cases=tuple(by_id.get(case.case_id, case) for case in manifest.cases))
    _refuse_empty(result, config)
    return result


def stratified(patients: Patients, seed: int) -> list[str]:
    """Order patients by vendor, and within a vendor by a draw that depends on seed and patient only."""

    def key(patient: str) -> tuple[str, float, str]:
        vendor = min(case.vendor.casefold() for case in patients[patient])
        return vendor, float(generator(seed, "split", patient).random()), patient

    return sorted(patients, key=key)


def take_evenly(ordered: Sequence[str], count: int, seed: int, name: str) -> list[str]:
    """Take `count` of an ordered sequence at even distances: each stratum gives its share to within one."""
    if count <= 0:
        return []
    start = float(generator(seed, "split", name).random())
    return [ordered[int((index + start) * len(ordered) / count)] for index in range(count)]


def _fresh(cases: list[Case], config: SplitConfig) -> list[Case]:
    patients = _by_patient(cases)
    labelled = {patient: series for patient, series in patients.items() if any(case.label for case in series)}
    pool = stratified(labelled or patients, config.seed)
    test = set(take_evenly(pool, _count(config.test, len(pool)), config.seed, "test"))
    rest = [patient for patient in pool if patient not in test]
    folds: dict[str, int] = {}
    if config.folds:
        folds = {patient: place % config.folds for place, patient in enumerate(rest)}
        development = {patient for patient, fold in folds.items() if fold == config.fold}
    else:
        development = set(take_evenly(rest, _count(config.development, len(pool)), config.seed, "development"))
    result: list[Case] = []
    for patient, series in patients.items():
        split = "test" if patient in test else "development" if patient in development else "pretrain"
        split_series = [replace(case, split=split, fold=folds.get(patient)) for case in series]
        result += split_series if split == "pretrain" else _one_series(split_series, config.seed)
    return result


def _count(fraction: float, num_patients: int) -> int:
    """Round to whole patients; a split that was asked for gets one where there are at least three."""
    return max(round(fraction * num_patients), 1 if fraction > 0 and num_patients >= 3 else 0)


def _one_series(series: list[Case], seed: int) -> list[Case]:
    """Keep one series of a patient, a labelled one if there is any; the others become unused."""
    candidates = sorted((case for case in series if case.label), key=_by_id) or sorted(series, key=_by_id)
    draw = generator(seed, "series", series[0].patient_id).integers(len(candidates))
    kept = candidates[int(draw)].case_id
    return [case if case.case_id == kept else replace(case, split="unused") for case in series]


def _kept(cases: list[Case]) -> list[Case]:
    """Keep given splits; a case without one follows its patient, and pre-trains where its patient has none either."""
    if all(not case.split for case in cases):
        raise DataError("no case has a split that could be kept", fix="leave out --keep-splits", code="EMPTY_SPLIT")
    given = {case.patient_id: case.split for case in cases if case.split in ("development", "test")}
    return [
        case if case.split else replace(case, split="unused" if case.patient_id in given else "pretrain")
        for case in cases
    ]


def _choose_finetune(cases: list[Case], config: SplitConfig) -> list[Case]:
    if any(case.split == "finetune" for case in cases):
        return cases
    patients = _by_patient([case for case in cases if case.split == "pretrain" and case.label])
    if not patients:
        return cases
    ordered = stratified(patients, config.seed)
    count = config.labelled or max(1, round(config.labelled_fraction * len(ordered)))
    if count > len(ordered):
        raise DataError(
            f"{count} labelled cases were asked for, {len(ordered)} training patients have a label",
            fix="ask for fewer with --labelled",
            code="EMPTY_SPLIT",
        )
    chosen: set[str] = set()
    for patient in take_evenly(ordered, count, config.seed, "finetune"):
        series = sorted(patients[patient], key=_by_id)
        chosen.add(series[int(generator(config.seed, "finetune", patient).integers(len(series)))].case_id)
    return [replace(case, split="finetune") if case.case_id in chosen else case for case in cases]


def _refuse_empty(manifest: Manifest, config: SplitConfig) -> None:
    wanted = {"development": config.development > 0 or config.folds > 0, "test": config.test > 0}
    if config.keep_splits:
        wanted = {}
    wanted["finetune"] = any(case.label for case in manifest.cases if case.split != "unused")
    for split, is_wanted in wanted.items():
        if is_wanted and not manifest.of_split(split):
            raise DataError(
                f"the split {split!r} has no case",
                fix=f"add labelled patients, or set the size of {split} to 0",
                code="EMPTY_SPLIT",
            )
    if not manifest.of_split("pretrain", "finetune"):
        raise DataError(
            "no case is left to train on", fix="add patients, or make development and test smaller", code="EMPTY_SPLIT"
        )


def _by_patient(cases: list[Case]) -> Patients:
    patients: Patients = defaultdict(list)
    for case in cases:
        patients[case.patient_id].append(case)
    return dict(patients)


def _by_id(case: Case) -> str:
    return case.case_id

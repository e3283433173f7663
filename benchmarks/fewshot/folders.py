"""One prepared folder for all rows, and views of it that differ only in which cases may use their labels.

The prepared arrays are made once by the package's own `index` and `prepare` steps. A view is a prepared folder too: its
own table of cases, and links to the arrays.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from apatite.core.commit import commit_json, commit_text, committed_folder
from apatite.core.errors import DataError
from apatite.core.rng import generator
from apatite.core.watch import Watch, unwatched
from apatite.data.prepare import PrepareConfig, prepare
from apatite.io.layouts import read_layout
from apatite.io.leaks import refuse_leaks
from apatite.io.manifest import Case, Manifest, manifest_digest, to_csv
from apatite.io.store import Prepared
from apatite.io.survey import completed, survey

ORGANS = {
    1: "brainstem",
    2: "spinal cord",
    3: "right parotid",
    4: "left parotid",
    5: "oesophagus",
    6: "larynx",
    7: "mandible",
}
CROP = (64, 64, 64)
TRAINING = ("pretrain", "finetune")


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where prepared data and runs lie; nothing in it is worth keeping.

    Attributes:
        folder: Its place.
        data: The folder with `cases.csv`.
        results: Where finished rows are committed.
        runs: Of the run folders, where that is not in `folder`.
    """

    folder: Path
    data: Path
    results: Path
    runs: Path | None = None

    @property
    def prepared(self) -> Path:
        """All cases, once."""
        return self.folder / "prepared"

    def run(self, row: str) -> Path:
        """The run folder of a row."""
        return (self.runs or self.folder / "runs") / row

    def result(self, row: str) -> Path:
        """The JSON of a finished row."""
        return self.results / f"{row}.json"


def open_base(work: Work, watch: Watch = unwatched) -> Prepared:
    """The prepared folder; made when missing, which takes about two minutes.

    Raises:
        DataError: the data are not there, or a patient or an image is on two sides of the split.
    """
    if not (work.prepared / "prepared.json").exists():
        listed = read_layout(work.data / "cases.csv", "csv")
        listed = replace(listed, label_names=dict(ORGANS))
        found = survey(listed, watch)
        manifest = completed(listed, found)
        refuse_leaks(manifest.cases, found.digests)
        prepare(manifest, work.prepared, PrepareConfig(kind="volume", least_shape=CROP), 2, watch)
    return Prepared.open(work.prepared)


def labelled_subset(manifest: Manifest, seed: int, count: int) -> tuple[str, ...]:
    """The first `count` patients' cases of one random order of the training patients: subsets are nested.

    Raises:
        DataError: there are fewer labelled training patients.
    """
    candidates = _one_per_patient(case for case in manifest.cases if case.split in TRAINING and case.label)
    order = generator(seed, "fewshot", "labelled").permutation(len(candidates))
    return _first([candidates[place].case_id for place in order], count)


def first_training_cases(manifest: Manifest, count: int) -> tuple[str, ...]:
    """The first `count` training cases in the order of the table."""
    return _first([case.case_id for case in manifest.cases if case.split in TRAINING and case.label], count)


def open_view(work: Work, name: str, labelled: Collection[str]) -> Prepared:
    """The prepared folder in which just these training cases are `finetune`; made when missing.

    Raises:
        DataError: one of them is not a training case, or the split leaks.
    """
    folder, base = work.folder / "views" / name, open_base(work)
    cases = tuple(replace(case, split=_split(case, labelled)) for case in base.cases)
    manifest = replace(base.manifest, cases=cases)
    strangers = set(labelled) - {case.case_id for case in cases if case.split == "finetune"}
    if strangers:
        raise DataError("is no training case", where=min(strangers), fix="choose among the training cases", code="LEAK")
    refuse_leaks(cases, {})
    if not folder.exists():
        with committed_folder(folder) as part:
            commit_text(part / "cases.csv", to_csv(cases))
            about = base.about | {"manifest_sha256": manifest_digest(manifest)}
            commit_json(part / "prepared.json", about | {"counts": _counts(cases)})
            for shared in ("grids.npy", "volumes"):
                (part / shared).symlink_to(base.folder.resolve() / shared)
    view = Prepared.open(folder)
    if view.about["manifest_sha256"] != manifest_digest(manifest):
        raise DataError(
            "was made with other labelled cases", where=str(folder), fix="remove the work folder and begin again"
        )
    return view


def num_annotated(prepared: Prepared, case_ids: Sequence[str]) -> dict[str, int]:
    """In how many of the cases each organ was looked for."""
    chosen = [case for case in prepared.cases if case.case_id in set(case_ids)]
    values = sorted(prepared.manifest.label_names)
    names = prepared.manifest.label_names
    return {names[value]: sum(value in prepared.manifest.annotated(case) for case in chosen) for value in values}


def about_work(work: Work) -> str:
    """Whether the data are there, in words; empty where they are."""
    return "" if (work.data / "cases.csv").exists() else f"the data set is not there: no cases.csv in {work.data}"


def _split(case: Case, labelled: Collection[str]) -> str:
    if case.split not in TRAINING:
        return case.split
    return "finetune" if case.case_id in labelled else "pretrain"


def _counts(cases: Sequence[Case]) -> dict[str, int]:
    splits = (*TRAINING, "development", "test")
    return {split: sum(case.split == split for case in cases) for split in splits}


def _one_per_patient(cases: Iterator[Case]) -> list[Case]:
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.patient_id, case)
    return list(first.values())


def _first(case_ids: list[str], count: int) -> tuple[str, ...]:
    if count > len(case_ids):
        raise DataError(
            f"{count} labelled cases were asked for, {len(case_ids)} can be had",
            fix="ask for fewer",
            code="EMPTY_SPLIT",
        )
    return tuple(case_ids[:count])


def read_json(path: Path) -> dict:
    """A JSON object."""
    return json.loads(path.read_text(encoding="utf-8"))

"""From a manifest to a prepared folder: each case is read once, cut or resampled, and stored as training wants it.

A case that is bad is named and left out, and the batch goes on. Annotation travels as the fraction of each voxel that
is annotated on the original slices, so nothing is lost to a nearest neighbour.

Cases are prepared one by one in `.<folder>.unfinished` beside the folder (`batch.supervise`), where a run that was
killed or stopped is gone on with by the same call, and which several processes may share. When all are there, the
folder is put together and appears in one rename.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from apatite.batch.attempt import Item
from apatite.batch.claims import CASES, Desk, others
from apatite.batch.lease import hold
from apatite.batch.rows import Row
from apatite.batch.supervise import supervise
from apatite.batch.worker import CaseLimits
from apatite.core.commit import committed_folder, sweep_beside
from apatite.core.errors import ApatiteError, BusyError, ConfigError, DataError, StoppedError, StorageError
from apatite.core.reasons import REASONS
from apatite.core.stop import StopRequest, stop_on_signal
from apatite.core.watch import Watch, unwatched
from apatite.ct.decisions import Decision, apply_decisions
from apatite.ct.template import Template
from apatite.data.prepare_config import RECIPES, PrepareConfig
from apatite.data.prepare_join import CaseRow, Joined, join
from apatite.data.prepare_piece import PrepareTask
from apatite.io.case import Case
from apatite.io.leaks import SIDES, refuse_leaks
from apatite.io.manifest import Manifest

__all__ = ["RECIPES", "PrepareConfig", "PrepareResult", "PrepareWith", "prepare"]

_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class PrepareWith:
    """What `prepare` is given beside the cases.

    Attributes:
        templates: Heads to register to, by age; with them, whole heads need not state where the region is.
        decisions: Of reviewers; cases that they reject are left out.
        limits: What one case may take, where workers do it.
    """

    templates: tuple[Template, ...] = ()
    decisions: tuple[Decision, ...] = ()
    limits: CaseLimits = field(default_factory=CaseLimits)


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What became of the cases.

    Attributes:
        folder: The prepared folder.
        counts: Prepared cases by split.
        failures: One per case that should be there and is not: case_id, what, where, fix, code.
        num_rejected: Cases that a reviewer rejected.
    """

    folder: Path
    counts: dict[str, int]
    failures: tuple[dict[str, Any], ...]
    num_rejected: int = 0


def prepare(
    manifest: Manifest,
    folder: Path,
    config: PrepareConfig,
    workers: int = 0,
    watch: Watch = unwatched,
    given: PrepareWith | None = None,
) -> PrepareResult:
    """Prepare every case that has a split; those that are `unused` are left out.

    Args:
        manifest: The cases, already split.
        folder: To be made; must not exist.
        config: What to make.
        workers: Processes; 0 works in this one, without limits. The result does not depend on it.
        watch: Shows the progress.
        given: Templates, decisions and limits.

    Raises:
        ConfigError: calcium, which is defined by HU, in images that are to be counted in something else.
        DataError: no case has a split, a leak, the folder exists, or not one case is good.
        StorageError: as `core.commit.committed_folder`; the same call goes on.
        StoppedError: a signal asked to stop; the same call goes on.
    """
    given = given or PrepareWith()
    _refuse_calcium_without_hu(manifest, config)
    _refuse_existing(folder)
    cases = _cases_with_split(manifest)
    refuse_leaks(cases, {})
    rejected = apply_decisions(given.decisions, [case.case_id for case in manifest.cases])
    task = PrepareTask(manifest=replace(manifest, cases=()), config=config, templates=given.templates)
    wanted = tuple(case for case in cases if case.case_id not in rejected)
    versions = task.versions(wanted)
    items = [
        Item(case_id=case.case_id, value=case, version=version) for case, version in zip(wanted, versions, strict=True)
    ]
    work = folder.with_name(f".{folder.name}.unfinished")
    with _tidied(work), _named_after(folder, work):
        rows = supervise(task, items, work, given.limits, workers, watch)
        with stop_on_signal() as stop, ExitStack() as stack:
            _be_alone(stack, work, stop)
            job = _digest([item.name for item in items], sorted(rejected))
            if not folder.exists():
                joined = _joined(manifest, rejected, config, _Settled(items=items, rows=rows, work=work), job)
                sweep_beside(folder)
                with committed_folder(folder) as part:
                    join(part, joined)
            shutil.rmtree(work, ignore_errors=True)
    return _result(folder, job, len(rejected))


@dataclass(frozen=True, kw_only=True)
class _Settled:
    """The cases that were worked on, and what became of each."""

    items: Sequence[Item[Case]]
    rows: Sequence[Row]
    work: Path

    def good(self) -> list[tuple[Case, Path]]:
        """The prepared cases, and where each lies."""
        desk = Desk(folder=self.work, owner="")
        pairs = zip(self.items, self.rows, strict=True)
        return [(item.value, desk.result(item.name)) for item, row in pairs if row.is_done]


def _joined(
    manifest: Manifest, rejected: Mapping[str, str], config: PrepareConfig, settled: _Settled, job: str
) -> Joined:
    """All that the prepared folder is made of."""
    failures = [_failure(row) for row in settled.rows if not row.is_done]
    good = settled.good()
    if not good:
        first = failures[0] if failures else {"what": "all were rejected", "where": "", "fix": "", "code": "REJECTED"}
        raise DataError(
            f"no case is good; the first: {first['what']}",
            where=first["where"],
            fix=first["fix"],
            code=first["code"],
        )
    by_case = {row.case_id: row for row in settled.rows}
    rows = [_case_row(case, by_case, rejected) for case in manifest.cases]
    return Joined(manifest=manifest, config=config, good=good, rows=rows, failures=failures, job=job)


def _failure(row: Row) -> dict[str, str]:
    return {"case_id": row.case_id, "what": row.what, "where": row.where, "fix": row.fix, "code": row.code}


def _case_row(case: Case, by_case: Mapping[str, Row], rejected: Mapping[str, str]) -> CaseRow:
    """What became of one case of the manifest, also of one that nobody worked on."""
    if case.case_id in by_case:
        return CaseRow.of(case, by_case[case.case_id])
    if case.verdict:
        code, *flags = case.codes
        return CaseRow(
            case_id=case.case_id,
            split=case.split,
            verdict=case.verdict,
            code=code,
            what=REASONS[code][1],
            flags=tuple(flags),
        )
    if case.case_id in rejected:
        code = rejected[case.case_id]
        return CaseRow(case_id=case.case_id, split=case.split, verdict="rejected", code=code, what=REASONS[code][1])
    return CaseRow(case_id=case.case_id, split=case.split, verdict="unused")


def _refuse_calcium_without_hu(manifest: Manifest, config: PrepareConfig) -> None:
    if config.intensity != "hu" and "calcium" in manifest.label_names.values():
        raise ConfigError(
            f"calcium is defined by Hounsfield units, which intensity={config.intensity} does not keep",
            where="intensity",
            fix="use intensity=hu, or give the label another name",
        )


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise DataError("the folder exists already", where=str(folder), fix="name a new one, or remove it first")


def _cases_with_split(manifest: Manifest) -> tuple[Case, ...]:
    cases = manifest.of_split(*SIDES)
    if not cases:
        raise DataError(
            "no case has a split", where=str(manifest.root), fix="run `apatite index` first", code="EMPTY_SPLIT"
        )
    if any(case.label for case in cases) and not manifest.label_names:
        raise DataError(
            "there are label maps, but no label has a name",
            where=str(manifest.root),
            fix='write {"1": "calcium"} to the .labels.json file',
            code="BAD_LABEL",
        )
    return cases


@contextmanager
def _named_after(folder: Path, work: Path) -> Iterator[None]:
    """A disk that fails is told of by the folder that the user named, not by the one that is only worked in."""
    try:
        yield
    except StorageError as error:
        error.where = error.where.replace(str(work), str(folder))
        raise


@contextmanager
def _tidied(work: Path) -> Iterator[None]:
    """Leave the work folder only where going on from it saves anything."""
    try:
        yield
    except DataError:
        # Something has to be changed first: the cases, or the folder to make.
        _remove(work)
        raise
    except ApatiteError:
        if not any((work / CASES).glob("*/result")):
            _remove(work)
        raise


def _remove(work: Path) -> None:
    if work.exists() and not others(work):
        shutil.rmtree(work, ignore_errors=True)


def _be_alone(stack: ExitStack, work: Path, stop: StopRequest) -> None:
    """Wait until no other process puts the folder together, and none is still at work on the cases."""
    is_held = False
    while not is_held or others(work):
        if stop.by is not None:
            raise StoppedError(
                f"stopped by {stop.by.name}; all cases are done",
                where=str(work),
                fix="run the same command again",
                code="STOPPED",
            )
        if not is_held:
            with suppress(BusyError):
                stack.enter_context(hold(work, "prepare"))
                is_held = True
        if not is_held or others(work):
            time.sleep(_LOOK_S)


def _digest(names: Sequence[str], rejected: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([list(names), list(rejected)]).encode()).hexdigest()


def _result(folder: Path, job: str, num_rejected: int) -> PrepareResult:
    """What lies in the folder; it may have been put together by another process with the same call."""
    about = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    if about["job_sha256"] != job:
        raise DataError(
            "the folder was made meanwhile, of other cases or settings", where=str(folder), fix="name a new one"
        )
    return PrepareResult(
        folder=folder, counts=about["counts"], failures=tuple(about["failures"]), num_rejected=num_rejected
    )

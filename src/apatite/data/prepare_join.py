"""The prepared folder is put together of its cases, in the order of the manifest.

Beside the arrays of `io.store`:

    rows.csv             one row per case of the manifest: what became of it
    localisations.json   how regions were found, by case; only where one was
    quality.csv          figures of those cases, and which of them a person should look at
    looks/<case>.npy     those cases in template space, in grey levels, for the pictures of `apatite quality`
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from apatite.batch.rows import Row, to_csv
from apatite.core.commit import commit_json, commit_text
from apatite.core.config import dump
from apatite.data.prepare_config import PrepareConfig
from apatite.data.prepare_piece import Piece, read_piece
from apatite.data.prepare_quality import quality_csv
from apatite.io.case import Case
from apatite.io.leaks import SIDES, refuse_leaks
from apatite.io.manifest import Manifest, manifest_digest
from apatite.io.manifest import to_csv as cases_to_csv
from apatite.io.run_folder import environment
from apatite.io.store import FORMAT, ArrayWriter

LOOKS_FOLDER = "looks"


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """What became of one case of a manifest.

    Attributes:
        case_id, split: Which case.
        verdict: `done`, `failed`, `rejected` by a reviewer, `unused` (no split wants it), or what `index` said of it.
        code: Why it is not there; the first where there are several.
        what, fix: The same for people.
        elapsed_s, attempts: What it cost.
        flags: What goes with it.
    """

    case_id: str
    split: str
    verdict: str
    code: str = ""
    what: str = ""
    fix: str = ""
    elapsed_s: float = 0.0
    attempts: int = 0
    flags: tuple[str, ...] = ()

    @classmethod
    def of(cls, case: Case, row: Row) -> "CaseRow":
        """Of a case that was worked on."""
        return cls(
            case_id=case.case_id,
            split=case.split,
            verdict=row.verdict,
            code=row.code,
            what=row.what,
            fix=row.fix,
            elapsed_s=row.elapsed_s,
            attempts=row.attempts,
            flags=tuple(sorted({*case.codes, *row.flags})),
        )


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What a prepared folder is made of.

    Attributes:
        manifest: All cases, and where they lie.
        config: What was made of them.
        good: The prepared cases, and where each lies, in the order of the manifest.
        rows: One per case of the manifest.
        failures: Of cases that should be there: case_id, what, where, fix, code.
        job: Digest of all that was asked for.
    """

    manifest: Manifest
    config: PrepareConfig
    good: Sequence[tuple[Case, Path]]
    rows: Sequence[CaseRow]
    failures: Sequence[Mapping[str, str]]
    job: str


def join(part: Path, joined: Joined) -> dict[str, int]:
    """Fill a prepared folder, and count its cases by split.

    Raises:
        DataError: an image is in two splits (`LEAK`).
    """
    digests: dict[str, str] = {}
    found: dict[str, Any] = {}
    cases: list[Case] = []
    with _sink(part, joined.manifest, joined.config, len(joined.good)) as sink:
        for case, folder in joined.good:
            piece = read_piece(folder)
            sink.add(case, piece)
            digests[case.case_id] = piece.image_digest
            if piece.found is not None:
                found[case.case_id] = piece.found
                _keep_looks(part, case, piece)
                case = replace(case, region_centre_ras_mm=tuple(piece.found["region_centre_ras_mm"]))
            cases.append(case)
        refuse_leaks(cases, digests)
        sink.finish()
    if found:
        commit_json(part / "localisations.json", found)
        commit_text(part / "quality.csv", quality_csv(found))
    commit_text(part / "rows.csv", to_csv(joined.rows))
    counts = {split: sum(case.split == split for case in cases) for split in SIDES}
    _describe(part, replace(joined.manifest, cases=tuple(cases)), joined, counts)
    return counts


def _keep_looks(part: Path, case: Case, piece: Piece) -> None:
    if piece.looks is not None:
        (part / LOOKS_FOLDER).mkdir(exist_ok=True)
        _link(str(piece.looks), str(part / LOOKS_FOLDER / f"{case.case_id}.npy"))


class _Sink:
    """Collects prepared cases into the files of a folder; nothing holds before `finish`."""

    def __init__(self, folder: Path, manifest: Manifest, config: PrepareConfig, most_rows: int) -> None:
        self._writers = {"grid": ArrayWriter(folder / "grids.npy", (4, 4), np.float64, most_rows)}
        self._volumes = folder / "volumes" if config.kind == "volume" else None
        if self._volumes is not None:
            self._volumes.mkdir()
            return
        shape = config.region.shape
        planes = (len(manifest.label_names), *shape)
        self._writers["image"] = ArrayWriter(folder / "images.npy", shape, np.int16, most_rows)
        self._writers["labels"] = ArrayWriter(folder / "fractions.npy", planes, np.uint8, most_rows)

    def add(self, case: Case, piece: Piece) -> None:
        """Append one case."""
        self._writers["grid"].append(piece.ijk_to_ras)
        if self._volumes is not None and piece.volume is not None:
            shutil.copytree(piece.volume, self._volumes / case.case_id, copy_function=_link)
            return
        self._writers["image"].append(piece.image_hu)
        self._writers["labels"].append(piece.labels)

    def finish(self) -> None:
        """State how many cases there are."""
        for writer in self._writers.values():
            writer.finish()

    def close(self) -> None:
        """Let go of the files."""
        for writer in self._writers.values():
            writer.close()


@contextmanager
def _sink(folder: Path, manifest: Manifest, config: PrepareConfig, most_rows: int) -> Iterator[_Sink]:
    sink = _Sink(folder, manifest, config, most_rows)
    try:
        yield sink
    finally:
        sink.close()


def _link(source: str, target: str) -> None:
    """A second name for a file, where the file system knows them; else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _describe(folder: Path, manifest: Manifest, joined: Joined, counts: Mapping[str, int]) -> None:
    """Write what was made of what; last, so that a folder with it is whole."""
    commit_text(folder / "cases.csv", cases_to_csv(manifest.cases))
    about = {
        "format": FORMAT,
        "kind": joined.config.kind,
        "config": dump(joined.config),
        "root": str(manifest.root.resolve()),
        "manifest_sha256": manifest_digest(manifest),
        "label_names": {str(value): name for value, name in sorted(manifest.label_names.items())},
        "domains": sorted({case.domain for case in manifest.cases}),
        "counts": dict(counts),
        "failures": list(joined.failures),
        "job_sha256": joined.job,
        "environment": environment(),
    }
    commit_json(folder / "prepared.json", about)

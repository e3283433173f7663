"""Quantify many scans to files: one folder per case, one row per input, bad ones named and passed by.

A case's folder appears whole or not at all; its `case.json` says everything that the number depends on. Run again with
the same model and settings, finished cases are read, not computed again.
"""

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apatite.calibrate.bounds import three_figures
from apatite.calibrate.thickness import thickness_of
from apatite.core.commit import commit_json, commit_text, committed_folder
from apatite.core.config import dump
from apatite.core.errors import ApatiteError, DataError, StorageError
from apatite.core.reasons import REASONS
from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.core.watch import Watch, unwatched
from apatite.ct.localise import Localisation
from apatite.io.images import read_image
from apatite.io.leaks import image_digest
from apatite.io.manifest import Case, Manifest, plain_cell
from apatite.io.model_card import RESEARCH_USE_ONLY
from apatite.io.nifti import viewer_grid, write_label, write_sidecar, write_volume
from apatite.io.run_folder import environment
from apatite.io.strict_json import parse_json
from apatite.segment.quantify import About, Quantifier, Quantity

COLUMNS: tuple[str, ...] = (
    "case_id", "patient_id", "verdict", "code", "volume_mm3", "volume_low_mm3", "volume_high_mm3",
    "interval_coverage", "right_mm3", "left_mm3", "num_lesions", "agatston", "agatston_standard", "max_hu",
    "covered_fraction", "burden_group", "burden_groups", "threshold", "calibrated", "model_digest", "flags", "banner",
)  # fmt: skip
"""Of `volumes.csv`. `verdict` is `measured`, `set aside` or `refused`; volumes have three significant figures."""
FORMAT = 2
"""Of `case.json`; 2 has limits of the volume."""
SIDES = {"1": "right", "2": "left"}
"""Label values of `label.nii.gz`."""


@dataclass(frozen=True, kw_only=True)
class Quantified:
    """What became of the inputs.

    Attributes:
        table: `volumes.csv`.
        rows: One per input.
    """

    table: Path
    rows: list[dict[str, Any]]

    @property
    def refused(self) -> list[dict[str, Any]]:
        """The inputs without a number that should have had one."""
        return [row for row in self.rows if row["verdict"] == "refused"]

    @property
    def measured(self) -> list[dict[str, Any]]:
        """The inputs with a number."""
        return [row for row in self.rows if row["verdict"] == "measured"]


def quantify_all(quantifier: Quantifier, manifest: Manifest, out: Path, watch: Watch = unwatched) -> Quantified:
    """Quantify every usable case of a manifest.

    Args:
        quantifier: Model, templates and settings.
        manifest: The inputs; those that an index set aside or refused become rows without a number.
        out: Folder for `volumes.csv` and `cases/<case_id>/` with `label.nii.gz`, `probability.nii.gz`, `case.json`.
        watch: Shows progress.

    Raises:
        ModelError: a model that learnt from phantoms on a real scan; nothing is computed for any of them.
        DataError: the folder holds results of another model or settings, or not one input could be measured.
        StorageError: the folder cannot be written.
    """
    for case in manifest.cases:
        if not case.verdict:
            quantifier.banner(case.domain)
    _refuse_another_run(quantifier, out)
    rows = []
    for case in watch(manifest.cases, "quantifying", len(manifest.cases)):
        rows.append(_row_of(quantifier, manifest, case, out))
        commit_text(out / "volumes.csv", _csv(rows))
    made = Quantified(table=out / "volumes.csv", rows=rows)
    if not made.measured:
        first = (made.refused or rows)[0]
        raise DataError(
            f"no scan could be measured; the first {REASONS.get(first['code'], ('', 'was not'))[1]}",
            where=first["case_id"],
            fix=f"see {made.table.name} for the reason of each",
            code=first["code"],
        )
    return made


def _refuse_another_run(quantifier: Quantifier, out: Path) -> None:
    """State model and settings of a folder; results of two models are not mixed in it."""
    about = {
        "format": FORMAT,
        "model_sha256": quantifier.predictor.digest,
        "templates": [image_digest(template.volume) for template in quantifier.templates],
        "settings": dump(quantifier.config),
        "version": environment()["packages"]["apatite"],
    }
    path = out / "quantify.json"
    if not path.exists():
        commit_json(path, about)
    elif parse_json(path.read_bytes()) != about:
        raise DataError(
            "the folder holds results of another model, template, version or setting",
            where=str(out),
            fix="name a new folder with -o",
        )


def _row_of(quantifier: Quantifier, manifest: Manifest, case: Case, out: Path) -> dict[str, Any]:
    """The row of one input, from its finished folder where there is one."""
    flags = " ".join(case.codes)
    if case.verdict:
        return _row(case, case.verdict, case.codes[0] if case.codes else "", {"flags": flags})
    try:
        scan = read_image(manifest.image_path(case), case.case_id)
        digest = image_digest(Volume(voxels=scan.voxels_hu, grid=viewer_grid(scan.stack)))
        folder = out / "cases" / case.case_id
        row = _finished(folder, digest) or _quantified(quantifier, case, scan, digest, folder)
    except StorageError:
        raise
    except ApatiteError as error:
        return _row(case, "refused", error.code or "INTERNAL", {"flags": flags})
    return _row(case, "measured", "", row)


def _finished(folder: Path, digest: str) -> dict[str, Any] | None:
    """The row of a case that is done; `None` where it is not, or where the scan has changed since."""
    about = folder / "case.json"
    if not about.exists():
        return None
    values = parse_json(about.read_bytes())
    if values["image_sha256"] == digest:
        return values["row"]
    shutil.rmtree(folder)
    return None


def _quantified(quantifier: Quantifier, case: Case, scan: Scan, digest: str, folder: Path) -> dict[str, Any]:
    """Quantify one scan, write its folder, and return its row."""
    about = About(
        domain=case.domain,
        age_years=case.age,
        kvp=case.kvp,
        kernel_class=case.kernel_class,
        thickness_mm=thickness_of(case, scan.stack),
    )
    found = quantifier.quantify(scan, about)
    row = _measured_row(quantifier, case, found)
    with committed_folder(folder) as part:
        for name, write in (("label", _write_label), ("probability", _write_probability)):
            write(part / f"{name}.nii.gz", scan, found)
            write_sidecar(part / f"{name}.nii.gz", scan.stack)
        commit_json(part / "case.json", {**_about(quantifier, case, found), "image_sha256": digest, "row": row})
    return row


def _write_label(path: Path, scan: Scan, found: Quantity) -> None:
    write_label(path, found.label, scan.stack, found.banner or found.bounds.words(found.measurement.total.volume_mm3))


def _write_probability(path: Path, scan: Scan, found: Quantity) -> None:
    """As uint8, where 255 is certain."""
    voxels = np.rint(found.probability * 255).astype(np.uint8)
    write_volume(path, Volume(voxels=voxels, grid=viewer_grid(scan.stack)), found.banner)


def _measured_row(quantifier: Quantifier, case: Case, found: Quantity) -> dict[str, Any]:
    total, right, left = found.measurement.total, found.measurement.right, found.measurement.left
    return {
        "volume_mm3": three_figures(total.volume_mm3),
        **found.bounds.cells(),
        "right_mm3": "" if right is None else three_figures(right.volume_mm3),
        "left_mm3": "" if left is None else three_figures(left.volume_mm3),
        "num_lesions": total.num_lesions,
        "agatston": three_figures(total.agatston),
        "agatston_standard": found.measurement.agatston_standard,
        "max_hu": total.max_hu,
        "covered_fraction": round(found.coverage.fraction, 3),
        "burden_group": "" if found.burden_group is None else found.burden_group,
        "threshold": round(found.threshold, 4),
        "calibrated": found.is_calibrated,
        "model_digest": quantifier.predictor.digest[:16],
        "flags": " ".join((*case.codes, *found.flags, *quantifier.domain_flags(case.domain))),
        "banner": found.banner,
    }


def _plain_localisation(found: Localisation) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "mni_to_ras": found.pose.mni_to_ras.tolist(),
        "confidence": found.confidence,
        "disagreement_mm": found.disagreement_mm,
    }


def _about(quantifier: Quantifier, case: Case, found: Quantity) -> dict[str, Any]:
    """All that the number depends on."""
    card = quantifier.predictor.card
    flags = [*case.codes, *found.flags, *quantifier.domain_flags(case.domain)]
    return {
        "format": FORMAT,
        "case_id": case.case_id,
        "use": RESEARCH_USE_ONLY,
        "banner": found.banner,
        "measurement": found.measurement.to_dict(),
        "interval": found.bounds.to_dict(),
        "burden_group": found.burden_group,
        "covered_fraction": found.coverage.fraction,
        "flags": {code: REASONS[code][1] for code in flags},
        "label_values": SIDES,
        "probability_scale": 255,
        "localisation": _plain_localisation(found.localisation),
        "threshold": found.threshold,
        "calibrated": found.is_calibrated,
        "settings": dump(quantifier.config),
        "model": {"sha256": quantifier.predictor.digest, "recipe": card.recipe, "domains": card.domains},
        "environment": environment(),
    }


def _row(case: Case, verdict: str, code: str, values: dict[str, Any]) -> dict[str, Any]:
    known = {"case_id": case.case_id, "patient_id": case.patient_id, "verdict": verdict, "code": code}
    return dict.fromkeys(COLUMNS, "") | known | values


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({name: plain_cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()

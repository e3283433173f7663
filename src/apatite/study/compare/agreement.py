"""Outcomes from different sources can be compared only where they are of the same cases with the same reference."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apatite.core.errors import DataError
from apatite.study.outcomes import CaseOutcome

Key = tuple[str, int, float | None]


@dataclass(frozen=True, eq=False)
class _Said:
    """What does not depend on a model."""

    patient_id: str
    voxels: int
    volume_mm3: float

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Said)
            and (self.patient_id, self.voxels) == (other.patient_id, other.voxels)
            and math.isclose(self.volume_mm3, other.volume_mm3, rel_tol=1e-6, abs_tol=1e-6)
        )

    def __hash__(self) -> int:
        return hash((self.patient_id, self.voxels))

    def __str__(self) -> str:
        return f"{self.voxels} voxels, {self.volume_mm3:.4g} mm³, patient {self.patient_id}"


def refuse_unlike(outcomes: Mapping[str, Sequence[CaseOutcome]]) -> None:
    """Refuse outcomes that are not of the same cases, patients, labels, HU gates and references.

    Args:
        outcomes: Model → its rows.

    Raises:
        DataError: there is no row (`NO_CASES`), or the odd one out of the models has other cases, another reference, or
            a case twice (`CASES_DIFFER`).
    """
    if not any(outcomes.values()):
        raise DataError("there is nothing to compare", fix="give models and cases", code="NO_CASES")
    said = {model: _said(model, rows) for model, rows in outcomes.items()}
    for key in sorted({key for keys in said.values() for key in keys}, key=str):
        of_models = {model: keys.get(key) for model, keys in said.items()}
        usual = Counter(of_models.values()).most_common(1)[0][0]
        odd = [model for model, found in of_models.items() if found != usual]
        if odd:
            # Of two that differ neither is the odd one; the first was there before.
            raise _unlike(key, odd[-1], of_models[odd[-1]], usual)


def _said(model: str, rows: Sequence[CaseOutcome]) -> dict[Key, _Said]:
    found: dict[Key, _Said] = {}
    for row in rows:
        key = (row.case_id, row.label, row.hu_gate)
        if key in found:
            raise DataError(
                f"case {row.case_id} (label {row.label}, HU gate {row.hu_gate}) stands twice",
                where=model,
                fix="give each case once",
                code="CASES_DIFFER",
            )
        found[key] = _Said(row.patient_id, row.true_positive + row.false_negative, row.reference_mm3)
    return found


def _unlike(key: Key, model: str, found: _Said | None, usual: _Said | None) -> DataError:
    case_id, label, gate = key
    what = f"case {case_id} (label {label}, HU gate {gate}) "
    if found is None:
        what += "is missing"
    elif usual is None:
        what += "is not among the cases of the others"
    else:
        what += f"has another reference: {found}, not {usual}"
    return DataError(
        what,
        where=model,
        fix="judge every model on the same cases, with the same reference, region and HU gate",
        code="CASES_DIFFER",
    )

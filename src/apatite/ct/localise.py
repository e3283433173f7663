"""Where the head lies in a scan: registration to a head-CT template, with gates, a second opinion and figures of trust.

A similarity is found first, from many starts. The scan is the fixed side and only what it shows is compared, so part of
a head is not stretched over the whole template. It is then refined with most weight on the skull round the carotids:
no affine map makes one head another everywhere. A scan of most of the head is refined with an affine map, since heads
differ from MNI space by another scale along each axis. A map that no head can have is not taken.

Source: Jin et al. 2024 (DEMI@MICCAI) register every scan to a template with an affine map (FSL FLIRT, mutual
information).
Differs: the similarity for parts of a head; the weight on the skull base; the gates; the second opinion.
"""

from dataclasses import dataclass

import numpy as np

from apatite.core.errors import DataError
from apatite.core.scan import Scan
from apatite.ct.boxes import BOXES
from apatite.ct.confidence import (
    Cover,
    Registered,
    bone_overlap,
    box_seen_share,
    cover_of,
    mirror_symmetry,
    on_judged,
    register,
    sinus_air_share,
)
from apatite.ct.gates import broken_gates
from apatite.ct.isotropic import Cubes, isotropic
from apatite.ct.matching import Samples, Target, agreement, correlation, information
from apatite.ct.pose import HeadPose
from apatite.ct.sampling import Draw, draw_samples
from apatite.ct.search import AFFINE, SIMILARITY, Family, Match, Matrix, best_starts, refine, refine_all, starts
from apatite.ct.subject import Subject, find_subject
from apatite.ct.target import targets
from apatite.ct.template import Template

CENTRE_MNI_MM = BOXES["ica"].centre_mni_mm
SAMPLES = (60_000, 10_000, 2500)
"""Of the finest cubes, the middle and the coarse ones."""
BINS, FINE_BINS = 24, 48
COARSE_STEPS, STEPS = 12, 60
CLIMBED_STARTS, KEPT_STARTS, KEPT_OPINIONS = 48, 3, 8
WHOLE_LENGTH_MM, WHOLE_SHARE = 110.0, 0.6
"""From here on a scan shows enough of the head for an affine map."""
FARTHEST_OPINION_MM = 6.0
LEAST_BONE_OVERLAP, NO_BONE_OVERLAP = 0.2, 0.1
"""Dice of bone: 0.24 to 0.57 in heads that were found, 0.17 in ten slices of a skull base, up to 0.11 where the map was
wrong (an abdomen, necks with shoulders)."""
FARTHEST_MIDLINE_MM = 5.0
LEAST_REGION_SEEN = 0.5
"""Where less of the carotids' box is in view, its place is an extrapolation (the region itself is then refused too)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Localisation:
    """Where the head lies, and how far that may be trusted.

    Attributes:
        pose: From MNI to the patient.
        kind: `affine` or `similarity`.
        confidence: Figures by name; what could not be judged is missing.
        flags: Codes of `core.reasons`: `REG_LOWCONF`, `PARTIAL_FOV`.
        disagreement_mm: Between the two opinions on the centre of the carotids' box, in the patient.
    """

    pose: HeadPose
    kind: str
    confidence: dict[str, float]
    flags: tuple[str, ...]
    disagreement_mm: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """The same head in cubes of three sizes, finest first, and the template in the same."""

    cubes: tuple[Cubes, Cubes, Cubes]
    subject: Subject
    targets: list[Target]
    seed: int

    def samples(self, level: int, name: str, focus: HeadPose | None = None) -> Samples:
        """Points of the scan; with a pose, most of them round the carotids."""
        where = None if focus is None else focus.to_ras(CENTRE_MNI_MM)
        how = Draw(number=SAMPLES[level], seed=self.seed, name=name, focus_ras_mm=where)
        return draw_samples(self.cubes[level], self.subject, how)

    def pose(self, matrix: Matrix) -> HeadPose:
        """Of a map from points relative to the pivot to MNI mm."""
        ras_to_mni = np.eye(4)
        ras_to_mni[:3, :3] = matrix[:, :3]
        ras_to_mni[:3, 3] = matrix[:, 3] - matrix[:, :3] @ self.subject.centre_ras_mm
        return HeadPose(mni_to_ras=np.linalg.inv(ras_to_mni))


def localise(scan: Scan, template: Template, *, seed: int = 0, threads: int = 2, where: str = "") -> Localisation:
    """Find the head in a scan.

    Args:
        scan: Original slices, in any orientation.
        template: What to register to.
        seed: Of the choice of samples.
        threads: How many starts are followed at once; the result is the same for any number.
        where: The case, for messages.

    Raises:
        DataError: `REG_FAIL`: there is no head, or no map that a head can have and that lays bone on bone.
    """
    view = _look(scan, template, seed, where)
    coarse = _coarse_matches(view, threads)
    similarity = _best_similarity(view, coarse[:KEPT_STARTS], threads)
    template_hu = on_judged(template.volume)
    pose, kind = view.pose(similarity), "similarity"
    registered = register(view.cubes[0], pose)
    cover = cover_of(registered, template_hu, pose)
    broken = broken_gates(pose)
    if _is_whole(cover):
        refined = view.pose(_affine(view, similarity))
        if not broken_gates(refined):
            pose, kind, broken = refined, "affine", ()
            registered = register(view.cubes[0], pose)
    if broken:
        raise _refused(f"the best map is none of a head ({', '.join(broken)})", where)
    found = _judged(pose, kind, registered, template_hu, cover, _second_opinion(view, coarse, kind))
    if found.confidence["bone_overlap"] < NO_BONE_OVERLAP:
        raise _refused("its bone does not lie on the template's", where)
    return found


def _refused(why: str, where: str) -> DataError:
    return DataError(
        f"the scan could not be registered to the template: {why}",
        where=where,
        fix="check that the series shows a head, or state the region's centre",
        code="REG_FAIL",
    )


def _look(scan: Scan, template: Template, seed: int, where: str) -> _View:
    """Cut the scan into cubes and find the head in it."""
    fine = isotropic(scan)
    middle = fine.halved()
    subject = find_subject(middle)
    if not subject.is_enough:
        raise DataError(
            f"the scan shows no head: {subject.tissue_litres:.2f} litres of tissue, {subject.bone_litres:.3f} of bone",
            where=where,
            fix="check that the series shows a head in Hounsfield units",
            code="REG_FAIL",
        )
    cubes = (fine, middle, middle.halved())
    return _View(cubes=cubes, subject=subject, targets=targets(template, levels=len(cubes)), seed=seed)


def _coarse_matches(view: _View, threads: int) -> list[Match]:
    """Short climbs from the most promising starts, at 8 mm; the best that differ."""
    samples, target = view.samples(2, "coarse"), view.targets[2]
    score = information(samples, BINS)

    def climb(start: Matrix) -> Match:
        return refine(samples, target, score, start, SIMILARITY, COARSE_STEPS)

    promising = best_starts(samples, target, score, starts(target.middle_mm), CLIMBED_STARTS)
    return refine_all(promising, climb, threads, KEPT_OPINIONS)


def _best_similarity(view: _View, coarse: list[Match], threads: int) -> Matrix:
    """At 4 mm from each coarse match; then the best of them at 2 mm, round the carotids."""
    samples = view.samples(1, "middle")
    score = information(samples, BINS)

    def climb(start: Matrix) -> Match:
        return refine(samples, view.targets[1], score, start, SIMILARITY, STEPS)

    best = refine_all([match.matrix for match in coarse], climb, threads, 1)[0]
    return _focused(view, best.matrix, SIMILARITY, BINS)


def _affine(view: _View, similarity: Matrix) -> Matrix:
    """The affine map near a similarity, first of the whole head, then round the carotids."""
    samples = view.samples(1, "middle")
    whole = refine(samples, view.targets[1], information(samples, BINS), similarity, AFFINE, STEPS)
    return _focused(view, whole.matrix, AFFINE, FINE_BINS)


def _focused(view: _View, matrix: Matrix, family: Family, bins: int) -> Matrix:
    """Twice at 2 mm with most weight round the carotids, the second time where the first found them."""
    for _ in range(2):
        samples = view.samples(0, "fine", focus=view.pose(matrix))
        matrix = refine(samples, view.targets[0], information(samples, bins), matrix, family, STEPS).matrix
    return matrix


def _second_opinion(view: _View, coarse: list[Match], kind: str) -> HeadPose:
    """Another choice among the coarse matches, by another score on other samples: plain correlation, at 4 mm."""
    samples, target = view.samples(1, "second"), view.targets[1]
    score = correlation(samples)
    family = AFFINE if kind == "affine" else SIMILARITY
    matrix = max(coarse, key=lambda match: agreement(samples, target, score, match.matrix)[0]).matrix
    matrix = refine(samples, target, score, matrix, SIMILARITY, STEPS).matrix
    samples = view.samples(1, "second", focus=view.pose(matrix))
    return view.pose(refine(samples, target, correlation(samples), matrix, family, STEPS).matrix)


def _is_whole(cover: Cover) -> bool:
    return cover.length_mm >= WHOLE_LENGTH_MM and (cover.has_vertex or cover.share > WHOLE_SHARE)


def _judged(
    pose: HeadPose, kind: str, registered: Registered, template_hu: np.ndarray, cover: Cover, second: HeadPose
) -> Localisation:
    """The pose with its figures and flags."""
    disagreement_mm = float(np.linalg.norm(pose.to_ras(CENTRE_MNI_MM) - second.to_ras(CENTRE_MNI_MM)))
    mirrored, midline_mm = mirror_symmetry(registered)
    confidence = {
        "disagreement_mm": disagreement_mm,
        "bone_overlap": bone_overlap(registered, template_hu),
        "midline_mm": midline_mm,
        "mirror_correlation": mirrored,
        "region_seen_share": box_seen_share(registered, BOXES["ica"]),
        "sinus_air_share": sinus_air_share(registered),
        "covered_share": cover.share,
        "covered_mm": cover.length_mm,
    }
    is_low = (
        disagreement_mm > FARTHEST_OPINION_MM
        or confidence["bone_overlap"] < LEAST_BONE_OVERLAP
        or abs(midline_mm) > FARTHEST_MIDLINE_MM
        or confidence["region_seen_share"] < LEAST_REGION_SEEN
    )
    flags = (("REG_LOWCONF",) if is_low else ()) + (() if _is_whole(cover) else ("PARTIAL_FOV",))
    return Localisation(pose=pose, kind=kind, confidence=confidence, flags=flags, disagreement_mm=disagreement_mm)

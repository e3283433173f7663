"""How often the interval on the volume holds the annotated volume, on fresh phantoms of every slice thickness.

Each patient is scanned once per group of slice thickness (protocols are drawn until one fits) and predicted on the
original slices. Some patients choose the threshold, others fit the interval, with the very functions of `apatite
calibrate`; the rest are counted. `by thickness` is what is deployed; `one for all` is plain split conformal over all
thicknesses, with one series per patient; `by thickness, two sides` takes distances down and up apart, `by
thickness, ln(V + 1)` measures them as ratios instead of on √V. Coverage has its exact 95 % interval (Clopper and
Pearson); 90 % is promised. `strange` is the share flagged OUT_OF_CAL_RANGE; a set is the burden groups that an interval
touches. Give a model of phantoms' regions with --model; its own training patients must come from another --seed. What
was predicted is kept under benchmarks/work and not done again.
"""

import json
import os
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apatite.calcium.burden import BurdenCuts
from apatite.calcium.measure import slice_weights_mm
from apatite.calcium.rule import CALCIUM_HU
from apatite.calibrate.groups import group_set, judge_sets
from apatite.calibrate.interval import IntervalFit, IntervalFitConfig
from apatite.calibrate.readings import GATED
from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.calibrate.threshold import volume_curve
from apatite.core.commit import commit_json
from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.ct.region import RegionConfig
from apatite.metrics.proportion import proportion
from apatite.phantom.cohort import PRESETS, CohortConfig, Patient, draw_patient
from apatite.phantom.density import Tissue, fill_tissue
from apatite.phantom.protocol import Protocol, draw_protocol, draw_vendor
from apatite.phantom.reader import read_perfectly
from apatite.phantom.scanner import Acquisition, acquire, lay_slices, make_pose
from apatite.segment.predict import Predictor, open_predictor
from apatite.study.calibrate import CalibrateConfig, choose
from apatite.study.development import Curves, Development
from apatite.study.site_fit import volumes_at
from harness import FOLDER, Benchmark

PRESET, CALCIUM, PATIENTS_PER_FILE = "small", 1, 10
KINDS = {
    "by thickness": IntervalFitConfig(),
    "one for all": IntervalFitConfig(merge="all"),
    "by thickness, two sides": IntervalFitConfig(sides="signed"),
    "by thickness, ln(V + 1)": IntervalFitConfig(scale="log"),
}
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many patients choose the threshold, fit the interval, and are counted; each is scanned in every group."""

    choosing: int
    fitting: int
    counted: int

    @property
    def calibration(self) -> int:
        """Patients before those that are counted."""
        return self.choosing + self.fitting

    @property
    def total(self) -> int:
        """All patients."""
        return self.calibration + self.counted


def main(arguments: list[str] | None = None) -> None:
    bench = Benchmark.start(__doc__, __file__, packages=("scipy",), arguments=arguments, options=_options)
    chosen = bench.options
    quick = Plan(choosing=20, fitting=20, counted=10)
    plan = quick if bench.quick else Plan(choosing=chosen.choosing, fitting=chosen.fitting, counted=chosen.counted)
    predictor = open_predictor(chosen.model)
    work = chosen.work / f"{predictor.digest[:16]}-seed{chosen.seed}"
    records = list(measured_all(chosen.model, work, plan.total, chosen.seed, workers=chosen.workers))
    for row in summary_rows(records, plan):
        bench.row(**row)
    bench.facts |= {
        "model": predictor.digest[:16],
        "recipe": predictor.card.recipe,
        "preset": PRESET,
        "seed": chosen.seed,
        "promised": KINDS["by thickness"].coverage,
        "threshold": calibrated(records, plan, IntervalFitConfig())[0],
    }
    bench.finish()


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="segmenter package or run folder")
    parser.add_argument("--choosing", type=int, default=60, help="patients that choose the threshold (default 60)")
    parser.add_argument("--fitting", type=int, default=200, help="patients that fit the interval (default 200)")
    parser.add_argument("--counted", type=int, default=400, help="patients that are counted (default 400)")
    parser.add_argument("--seed", type=int, default=90210, help="of the phantoms (default 90210)")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default 2)")
    parser.add_argument("--work", type=Path, default=FOLDER / "work" / "interval_coverage", help="what is kept")


def measured_all(model: Path, work: Path, count: int, seed: int, workers: int = 2) -> Iterator[Record]:
    """The records of all patients in order; files that are there are read."""
    groups = [range(first, min(first + PATIENTS_PER_FILE, count)) for first in range(0, count, PATIENTS_PER_FILE)]
    missing = [numbers for numbers in groups if not _file_of(work, numbers).exists()]
    # A fresh process per worker, so that each has one thread from its first import on.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(write_measured, model, work, numbers, seed) for numbers in missing]
        for number, job in enumerate(jobs, start=1):
            job.result()
            print(f"{number} of {len(jobs)} files of {PATIENTS_PER_FILE} patients", flush=True)
    for numbers in groups:
        yield from json.loads(_file_of(work, numbers).read_text(encoding="utf-8"))


def write_measured(model: Path, work: Path, numbers: Sequence[int], seed: int) -> None:
    """Measure some patients and keep their records."""
    predictor = _predictor(model)
    commit_json(_file_of(work, numbers), [record for number in numbers for record in measured(predictor, number, seed)])


@lru_cache(maxsize=1)
def _predictor(model: Path) -> Predictor:
    torch.set_num_threads(1)
    return open_predictor(model, "cpu")


def _file_of(work: Path, numbers: Sequence[int]) -> Path:
    return work / f"patients-{numbers[0]:05d}-{numbers[-1]:05d}.json"


def measured(predictor: Predictor, number: int, seed: int) -> Iterator[Record]:
    """Scan one patient in every thickness group and predict; volumes at every threshold and by the perfect reader."""
    config = CohortConfig(patients=1, preset=PRESET, seed=seed, first=number)
    patient = draw_patient(config, number)
    tissue = fill_tissue(patient.anatomy, PRESETS[PRESET].step_mm)
    region = RegionConfig(shape=predictor.card.input.shape, spacing_mm=predictor.card.input.spacing_mm)
    plane = predictor.label_values.index(CALCIUM)
    for group in THICKNESS_GROUPS:
        protocol, acquisition, centre = scanned(patient, tissue, group, region, seed)
        scan = acquisition.scan
        prediction = predictor.predict(scan, centre)
        voxel_mm3 = slice_weights_mm(scan.stack) * scan.stack.pixel_mm2
        may_count = prediction.is_counted & (scan.voxels_hu >= CALCIUM_HU)
        is_true = read_perfectly(acquisition) & prediction.is_counted
        curve = volume_curve(prediction.probability[plane], voxel_mm3, may_count)
        yield {
            "patient": patient.patient_id,
            "thickness_mm": protocol.thickness_mm,
            "reference_mm3": float(is_true.sum(axis=(1, 2)) @ voxel_mm3),
            "two_voxels_mm3": 2 * float(np.median(voxel_mm3)),
            "curve_mm3": np.round(curve, 4).tolist(),
        }


def scanned(
    patient: Patient, tissue: Tissue, group: str, region: RegionConfig, seed: int
) -> tuple[Protocol, Acquisition, tuple[float, float, float]]:
    """One series of a patient in a thickness group: protocol, slices, and where registration puts the region."""
    rng = generator(seed, "interval coverage", patient.number, group)
    factor = PRESETS[PRESET].pixel_factor
    vendor = patient.vendor if rng.random() < 0.85 else draw_vendor(rng)
    protocol = draw_protocol(rng, vendor, factor)
    while thickness_group(protocol.thickness_mm) != group:
        protocol = draw_protocol(rng, vendor, factor)
    pose = make_pose(protocol, np.round(rng.uniform(-25, 25, 3), 2))
    error_mm = rng.normal(0, 2.0, 3)
    error_mm *= min(1.0, 8.0 / max(float(np.linalg.norm(error_mm)), 1e-9))
    centre = region.grid(pose.shift_mm + error_mm).centre_ras_mm
    acquisition = acquire(tissue, pose, protocol, lay_slices(protocol, centre, float(rng.random())), rng)
    x, y, z = centre.tolist()
    return protocol, acquisition, (x, y, z)


def calibrated(
    records: Sequence[Record], plan: Plan, config: IntervalFitConfig
) -> tuple[float, IntervalFit, BurdenCuts | None]:
    """Threshold, interval and burden groups as `apatite calibrate` chooses them from the first patients."""
    first = records[: plan.calibration * len(THICKNESS_GROUPS)]
    if config.merge == "all":
        # One series per patient, each thickness in turn: the largest distance of four series would be another method.
        first = [record for number, record in enumerate(first) if number % 4 == number // 4 % 4]
    patients = [record["patient"] for record in first]
    thickness_mm = [record["thickness_mm"] for record in first]
    curves = Curves(
        curves_mm3=np.array([record["curve_mm3"] for record in first]),
        reference_mm3=np.array([record["reference_mm3"] for record in first]),
        patients=patients,
        thickness_mm=thickness_mm,
    )
    development = Development(
        curves={(CALCIUM, GATED): curves},
        logits={},
        two_voxels_mm3=float(np.median([record["two_voxels_mm3"] for record in first])),
        label_names={CALCIUM: "calcium"},
        patients=patients,
        thickness_mm=thickness_mm,
        domains=["phantom"],
    )
    # A hair more, so that a product such as 199.99999 is the 200 that it means.
    share = plan.fitting / plan.calibration + 1e-9
    settings = CalibrateConfig(resamples=0, fits_temperature=False, interval_share=share, interval=config)
    found = choose(development, settings)
    if GATED not in found.intervals:
        raise ConfigError(
            f"{plan.choosing} and {plan.fitting} patients are too few for an interval", fix="use at least 20 of each"
        )
    return found.threshold(CALCIUM, GATED), found.intervals[GATED], found.burden.get(GATED)


def summary_rows(records: Sequence[Record], plan: Plan) -> Iterator[dict[str, Any]]:
    """One row per kind of interval and thickness group."""
    counted = records[plan.calibration * len(THICKNESS_GROUPS) :]
    for kind, config in KINDS.items():
        threshold, fit, cuts = calibrated(records, plan, config)
        predicted_mm3 = _predicted(counted, threshold)
        for group in THICKNESS_GROUPS:
            rows = [row for row, record in enumerate(counted) if thickness_group(record["thickness_mm"]) == group]
            pairs = [(float(predicted_mm3[row]), counted[row]) for row in rows]
            yield {
                "interval": kind,
                "slices": group,
                "fitted_on": fit.groups[group].num_cases,
                **_judged(pairs, fit, cuts),
            }


def _predicted(records: Sequence[Record], threshold: float) -> np.ndarray:
    curves = Curves(
        curves_mm3=np.array([record["curve_mm3"] for record in records]),
        reference_mm3=np.zeros(len(records)),
        patients=[],
        thickness_mm=[],
    )
    return volumes_at(curves, threshold)


def _judged(pairs: Sequence[tuple[float, Record]], fit: IntervalFit, cuts: BurdenCuts | None) -> dict[str, Any]:
    """Coverage, width and group sets of some cases, one per patient."""
    found = [(fit.interval(volume, record["thickness_mm"]), record["reference_mm3"]) for volume, record in pairs]
    known = [(interval, reference) for interval, reference in found if interval is not None]
    if not known:
        return {"cases": 0}
    held = proportion(sum(interval.low <= reference <= interval.high for interval, reference in known), len(known))
    widths = [interval.high - interval.low for interval, _ in known]
    values = {"cases": len(known), "coverage": held.value, "low": held.low, "high": held.high}
    values |= {"median_width_mm3": float(np.median(widths)), "mean_width_mm3": float(np.mean(widths))}
    values |= {"strange": float(np.mean([not fit.has_seen(v, r["thickness_mm"]) for v, r in pairs]))}
    if cuts is not None:
        sets = judge_sets(
            [group_set(interval.low, interval.high, cuts) for interval, _ in known], [r for _, r in known], cuts
        )
        values |= {
            "set_coverage": sets.coverage.value,
            "one_group": sets.singleton_rate.value,
            "groups": sets.mean_size,
        }
    return values


if __name__ == "__main__":
    main()

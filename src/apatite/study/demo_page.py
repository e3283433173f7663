"""From a finished demonstration to its page: pictures of cases, learning curves, and what must be said about them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from apatite.calibrate.readings import UNGATED
from apatite.calibrate.threshold import THRESHOLDS
from apatite.core.commit import commit_text
from apatite.engine.journal import Journal
from apatite.io.model_card import RESEARCH_USE_ONLY
from apatite.io.run_folder import RunFolder, environment
from apatite.phantom.cohort import VERSION
from apatite.report.figures.curves import CurvePanel, line_of
from apatite.report.figures.overlay import OverlayCase
from apatite.report.figures.reconstruction import Reconstruction
from apatite.report.html import render_report
from apatite.study.cases import predict_cases
from apatite.study.demo import PRETRAINED, SCRATCH, DemoRun
from apatite.study.demo_report import DemoFindings, ThresholdSearch, best_median_worst, case_title, demo_sections
from apatite.study.judge import CALIBRATED
from apatite.study.write import write_evaluation

LABEL = 1
NOTES = (
    "All scans are simulated. The phantom's anatomy is drawn from textbook ranges and was compared with two real "
    "heads; vendors, kernels and prevalence are assumptions. Nothing here says how well a model does on patients.",
    "The network is the smallest size and was trained for minutes; the papers train for days. A difference between "
    "the two models is a difference at this budget, with one seed; seeds alone can move it.",
    "Both models have the same architecture, labels, steps, augmentation and thresholds rule; only the encoder's first "
    "weights differ. The time of pre-training is not given to the model from scratch.",
    "The reference is the annotation by the rule inside the true artery: a perfect reader, which no human is.",
    RESEARCH_USE_ONLY,
)


@dataclass(frozen=True, kw_only=True)
class DemoPage:
    """What was written: the page, and the folder with the tables behind it."""

    report: Path
    evaluation: Path


def write_demo_page(run: DemoRun, seed: int) -> DemoPage:
    """Write `report.html` and `evaluation/` in the demonstration's folder."""
    domains = sorted({case.domain for case in run.prepared.cases})
    versions = environment()
    provenance = {
        "phantom": VERSION,
        "seed": seed,
        "data": str(run.prepared.about["manifest_sha256"])[:16],
        "python": str(versions["python"]),
        "machine": str(versions["platform"]),
    }
    findings = DemoFindings(
        evaluation=run.evaluation,
        label=LABEL,
        before=PRETRAINED,
        after=PRETRAINED + CALIBRATED,
        done=_done(run),
        notes=NOTES,
        searches=_searches(run),
        curves=_curves(run),
        reconstructions=_reconstructions(run),
        overlays=_overlays(run),
        stages_s=run.stages_s,
    )
    page = render_report(
        "Apatite demonstration",
        demo_sections(findings),
        provenance,
        domains=domains,
        subtitle="Pre-training, few labels, calibration and evaluation on simulated head CT whose truth is known",
    )
    commit_text(run.out / "report.html", page)
    write_evaluation(run.evaluation, run.out / "evaluation", provenance=provenance, domains=domains)
    return DemoPage(report=run.out / "report.html", evaluation=run.out / "evaluation")


def _done(run: DemoRun) -> list[str]:
    cases = run.prepared.cases
    patients = len({case.patient_id for case in cases})
    row = run.encoder.last_row
    count = {split: len(run.prepared.case_index(split)) for split in ("development", "test")}
    lines = [
        f"Regions of {len(cases)} series of {patients} phantom patients were cut; patients were divided by vendor.",
        f"An encoder was pre-trained on {run.encoder.cases} series without labels ({run.encoder.steps} steps, "
        "90 % of the patches hidden).",
        f"Two models were fine-tuned on the same {run.models[SCRATCH].cases} labelled series: one from scratch, "
        "one from that encoder.",
        f"Thresholds, temperatures, intervals and burden groups come from {count['development']} development patients; "
        f"the {count['test']} test patients were looked at once.",
    ]
    if "reconstruction" in row:
        lines.append(
            f"Health of pre-training: error on hidden patches {row['reconstruction']:.3f}, against "
            f"{row['patch_mean']:.3f} for each patch's mean and {row['interpolation']:.3f} for interpolation from what "
            f"is visible; effective rank of the features {row['effective_rank']:.1f}."
        )
    return lines


def _searches(run: DemoRun) -> list[ThresholdSearch]:
    return [
        ThresholdSearch(
            model=name,
            fit=run.calibrations[name].fits[LABEL][UNGATED],
            thresholds=THRESHOLDS,
            error_mm3=development.curves[LABEL, UNGATED].error_mm3,
        )
        for name, development in run.development.items()
    ]


def _curves(run: DemoRun) -> list[CurvePanel]:
    def journal(name: str) -> list[dict]:
        return Journal(RunFolder(path=run.out / "runs" / name).metrics).rows()

    encoder = journal("pretrain")
    tuned = {name: journal(name) for name in run.models}
    return [
        CurvePanel(
            title="pre-training",
            x_label="step",
            y_label="error on hidden patches",
            lines={"training": line_of(encoder, "loss")},
        ),
        CurvePanel(
            title="frozen linear probe",
            x_label="step",
            y_label="Dice of the probe",
            lines={"encoder": line_of(encoder, "probe_dice")},
        ),
        CurvePanel(
            title="fine-tuning",
            x_label="step",
            y_label="soft Dice on development",
            lines={name: line_of(rows, "development_dice") for name, rows in tuned.items()},
        ),
    ]


def _reconstructions(run: DemoRun) -> list[Reconstruction]:
    """The regions that the health panel drew; the first window, back in HU."""
    made = load_file(run.out / "runs" / "pretrain" / "reconstructions.safetensors")
    if not made:
        return []
    low, high = run.predictor(PRETRAINED).card.input.windows_hu[0]

    def hu(picture: np.ndarray) -> np.ndarray:
        return (picture[0] + 1) / 2 * (high - low) + low

    return [
        Reconstruction(
            title=f"region {number}",
            original_hu=hu(original),
            is_hidden=np.isnan(visible[0]),
            reconstruction_hu=hu(restored),
        )
        for number, (original, visible, restored) in enumerate(
            zip(made["original"], made["visible"], made["reconstruction"], strict=True), start=1
        )
    ]


def _overlays(run: DemoRun) -> list[OverlayCase]:
    """Best, median and worst case of the calibrated model, predicted once more for their pictures."""
    chosen = best_median_worst(run.evaluation.rows(PRETRAINED + CALIBRATED, LABEL, None))
    cases = {case.case_id: case for case in run.prepared.cases}
    predictor = run.predictor(PRETRAINED)
    threshold = run.calibrations[PRETRAINED].threshold(LABEL, UNGATED)
    wanted = [cases[outcome.case_id] for outcome in chosen.values()]
    pictures = []
    found = predict_cases(predictor, run.prepared.manifest, wanted, "drawing cases")
    for (word, outcome), case in zip(chosen.items(), found, strict=True):
        stack = case.scan.stack
        pictures.append(
            OverlayCase(
                title=case_title(word, outcome),
                voxels_hu=case.scan.voxels_hu,
                is_reference=case.is_reference(LABEL) & case.prediction.is_counted,
                is_predicted=(case.prediction.probability[0] >= threshold) & case.prediction.is_counted,
                is_counted=case.prediction.is_counted,
                aspect=stack.row_spacing_mm / stack.column_spacing_mm,
            )
        )
    return pictures

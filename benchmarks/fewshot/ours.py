"""Our rows: the package's own pre-training and fine-tuning, resumed where an earlier piece stopped."""

from dataclasses import asdict, replace
from pathlib import Path

from apatite.core.config import load, read_yaml
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.pretrain.stage import pretrain
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune
from apatite.segment.predict import open_predictor
from fewshot.clock import StepClock
from fewshot.folders import Work, labelled_subset, num_annotated, open_base, open_view
from fewshot.judging import SPLIT, judge_on_development
from fewshot.results import Result, quiet_s, read_results
from fewshot.rows import LABELS, ROWS, Row
from fewshot.variants import finetune_config, pretrain_config


def view_of(work: Work, row: Row) -> tuple[Prepared, tuple[str, ...]]:
    """The prepared folder of a row and its labelled cases; pre-training sees the larger subset's, without labels."""
    labelled = labelled_subset(open_base(work).manifest, row.seed, row.labels or max(LABELS))
    return open_view(work, f"s{row.seed}-{row.labels or max(LABELS)}", labelled), labelled


def run_pretraining(row: Row, work: Work) -> Result:
    """Pre-train on all training cases."""
    prepared, _ = view_of(work, row)
    config, folder, clock = pretrain_config(row.variant, row.seed), work.run(row.name), clock_of(row, work)
    made = pretrain(config, prepared.folder, folder, resume=True, watch=clock)
    return Result(
        row=row.name,
        settings=settings_of(row),
        config=read_yaml(RunFolder(path=folder).config),
        steps=made.steps,
        training_s=clock.total()[1],
        facts={"cases": made.cases, "last_row": made.last_row},
    )


def run_finetuning(row: Row, work: Work) -> Result:
    """Fine-tune on the row's labelled cases, then judge."""
    prepared, labelled = view_of(work, row)
    folder, clock = work.run(row.name), clock_of(row, work)
    encoder = _encoder(row, work)
    config = finetune_config_of(row, work)
    made = finetune(config, prepared.folder, folder, init_from=encoder, resume=True, watch=clock)
    run = RunFolder(path=folder)
    predictor = open_predictor(folder, "cpu")
    run.log_look(SPLIT, "openkbp_fewshot", f"{row.name} {predictor.digest}")
    judged = judge_on_development(predictor, prepared)
    used = load(FinetuneConfig, read_yaml(run.config), str(run.config))
    return Result(
        row=row.name,
        settings=settings_of(row),
        config=read_yaml(run.config),
        steps=used.steps,
        training_s=clock.total()[1],
        evaluation_s=judged.seconds,
        labelled=labelled,
        num_annotated=num_annotated(prepared, labelled),
        outcomes=judged.outcomes,
        facts={"loss": made.last_row.get("loss"), "coverage": made.coverage.ratio if made.coverage else None},
    )


def finetune_config_of(row: Row, work: Work) -> FinetuneConfig:
    """The row's configuration; one that is to take as long as others gets the steps that fit into their time."""
    config = finetune_config(row.variant, row.seed)
    if not row.as_long_as:
        return config
    done = read_results(work.results)
    *together, pace = (done[name] for name in row.as_long_as)
    seconds = sum(quiet_s(result, done) for result in together)
    steps = round(seconds * pace.steps / quiet_s(pace, done))
    return replace(config, steps=steps, check_every=steps)


def has_encoder(work: Work, row: Row) -> bool:
    """Whether the encoder that the row begins from, if any, lies in the work folder."""
    return not row.encoder or RunFolder(path=work.run(row.encoder)).model.exists()


def _encoder(row: Row, work: Work) -> Path | None:
    """The run that the row begins from; learned again where only its JSON was kept, by the same seed and steps."""
    if not has_encoder(work, row):
        print(f"{row.encoder} is not in the work folder any more: pre-training again", flush=True)
        run_pretraining(ROWS[row.encoder], work)
    return work.run(row.encoder) if row.encoder else None


def settings_of(row: Row) -> dict:
    """What a row is, as plain values."""
    return {**asdict(row), "as_long_as": list(row.as_long_as)}


def clock_of(row: Row, work: Work) -> StepClock:
    """The row's clock, beside its run folder."""
    return StepClock(path=work.folder / "clocks" / f"{row.name}.jsonl", name=row.name)

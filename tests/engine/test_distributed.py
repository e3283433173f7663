"""Two processes started by torchrun do the run that one process does; killed or stopped, they go on as if never so.

One chain of runs is shared by the tests, since every start of two processes costs seconds.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from apatite.core.config import write_yaml
from apatite.core.errors import ConfigError
from apatite.data.augment import AugmentConfig
from apatite.data.feed import FeedConfig
from apatite.engine.checkpoint import load_state
from apatite.engine.distributed import joined
from apatite.engine.precision import Precision
from apatite.io.model_package import read_package
from apatite.io.run_folder import RunFolder
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.projection import ProjectionConfig
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.stage import pretrain
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune

BESIDE = Path(sys.executable).parent
LIMIT_S = 60.0
LOSS_TOLERANCE = 5e-6
"""Relative, of every loss and gradient norm of a run in fp32; seen: 2e-7 after 40 steps."""
WEIGHT_TOLERANCE = 5e-5
"""Absolute, of final weights; seen: 1e-5. Adam divides by the gradient, so one that is nothing but rounding counts."""

PLANTED = """
import sys, time
import torch
from apatite.cli.main import run
from apatite.core.errors import StoppedError, StorageError, TrainingError
from apatite.data.batches import Batch
from apatite.engine import fit
from apatite.engine.distributed import World, _Sum, joined

words, out = sys.argv[2:], sys.argv[1]
plants = {
    "dice_of_each_process": (World, "sum", lambda self, value: value),
    "dice_gradient_of_each_process": (_Sum, "backward", staticmethod(lambda context, gradient: gradient)),
    "paths_of_each_process": (fit, "share_draws", lambda module, share: None),
    "mirrors_of_each_process": (Batch, "sample_ids", property(lambda self: range(len(self.case_ids)))),
}
for name, (owner, attribute, planted) in plants.items():
    sound = owner.__dict__[attribute]
    setattr(owner, attribute, planted)
    assert run([*words[:-1], "-o", f"{out}/{name}", words[-1]]) == 0
    setattr(owner, attribute, sound)

with joined() as world:
    net = torch.nn.Linear(2, 1)
    losses = world.shared(net, lambda batch, step: {"loss": net(torch.ones(2)).sum()})
    for step in range(3):
        losses(None, step)["loss"].backward()
    print(f"order: {losses._get_ddp_logging_data().get('has_rebuilt_buckets', 0)}", flush=True)

try:
    with joined() as world:
        net = torch.nn.Linear(2, 1)
        world.shared(net, lambda batch, step: {"loss": net(torch.ones(2)).sum()})(None, 5 + world.share.index)
except (StorageError, TrainingError) as error:
    print(f"{world.share.index}: {error}", flush=True)

began = time.monotonic()
try:
    with joined() as world:
        time.sleep(0.5 if world.is_first else 0.0)
        raise StoppedError("as asked")
except StoppedError:
    print(f"waited: {time.monotonic() - began >= 0.5}", flush=True)

sys.exit(run([*words[:-1], "-o", f"{out}/odd", words[-1], "batch=3"]))
"""
"""Bugs that a shared run could have, one run with each. Then three steps of a small net; processes that begin at
different steps; a stop, where the first one takes half a second to commit; a batch of three for two processes."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a start of two processes ended."""

    code: int
    said: str


class Pair:
    """`torchrun` with two processes of the command."""

    def __init__(self, *words: str | Path, program: tuple[str | Path, ...] = (BESIDE / "apatite",)) -> None:
        torchrun = [BESIDE / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [str(word) for word in (*torchrun, *program, *words)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def member(self, rank: int) -> int:
        """The process of that number; only once both have begun to work."""
        for listing in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for child in listing.read_text().split():
                if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                    return int(child)
        raise LookupError(f"no process {rank}")

    def when(self, is_true: Callable[[], bool]) -> "Pair":
        while not is_true():
            if self.process.poll() is not None or time.monotonic() - self.began > LIMIT_S:
                self.process.terminate()
                raise AssertionError(f"never came to it: {self.process.communicate()[0]}")
            time.sleep(0.002)
        return self

    def end(self) -> Ended:
        try:
            said, _ = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            # It ends its processes, with force where they do not listen.
            self.process.terminate()
            raise AssertionError(f"goes on after {LIMIT_S} s: {self.process.communicate()[0]}") from None
        return Ended(code=self.process.returncode, said=said)


def rows_of(folder: Path) -> list[dict]:
    """The journal as it is on disk, a torn last line left out."""
    path = RunFolder(path=folder).metrics
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def has_rows(folder: Path, number: int) -> Callable[[], bool]:
    return lambda: len(rows_of(folder)) >= number


def furthest(one: list[dict], other: list[dict], *extra: str) -> float:
    """The largest relative difference of a loss or a gradient norm between two journals."""
    names = ("loss", "gradient_norm", *extra)
    assert [row["step"] for row in one] == [row["step"] for row in other]
    return max(abs(a[name] / b[name] - 1) for a, b in zip(one, other, strict=True) for name in names)


def weights_apart(one: Path, other: Path) -> float:
    first, second = (load_state(RunFolder(path=folder).last)[0] for folder in (one, other))
    names = [name for name in first if name.startswith("model.")]
    return max(float((first[name] - second[name]).abs().max()) for name in names)


def same_state(one: Path, other: Path) -> bool:
    (first, about), (second, also) = (load_state(RunFolder(path=folder).last) for folder in (one, other))
    is_same = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    return is_same and about == also


@pytest.fixture(scope="module")
def pretraining() -> PretrainConfig:
    """30 steps, each of them journalled and committed."""
    return PretrainConfig(
        model="vitiac-xs",
        patch=(4, 8, 8),
        hidden_ratio=0.7,
        epochs=30,
        batch=10,
        check_epochs=1,
        save_every_s=0.0,
        precision=Precision(threads=1),
    )


@pytest.fixture(scope="module")
def tuning(tiny: FinetuneConfig) -> FinetuneConfig:
    """12 steps with all that is drawn per sample; only the left organ was looked for in half of the bodies."""
    return replace(
        tiny,
        crop=(8, 16, 24),
        steps=12,
        check_every=1,
        drop_path=0.4,
        augment=AugmentConfig(mirror_pairs=((2, 5),)),
        feed=FeedConfig(workers=1),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def pretrain_words(head_study, pretraining, folder) -> tuple:
    write_yaml(folder / "pretrain.yaml", pretraining)
    return "pretrain", "-d", head_study.prepared, "--config", folder / "pretrain.yaml", "--json"


@pytest.fixture(scope="module")
def tune_words(body_study, tuning, folder) -> tuple:
    write_yaml(folder / "finetune.yaml", tuning)
    return "finetune", "-d", body_study.prepared, "--config", folder / "finetune.yaml", "--json"


@pytest.fixture(scope="module")
def pretrained(pretrain_words, folder) -> Path:
    ended = Pair(*pretrain_words, "-o", folder / "pretrained").end()
    assert ended.code == 0, ended.said
    return folder / "pretrained"


@pytest.fixture(scope="module")
def finetuned(tune_words, folder) -> tuple[Path, str]:
    ended = Pair(*tune_words, "-o", folder / "finetuned").end()
    assert ended.code == 0, ended.said
    return folder / "finetuned", ended.said


@pytest.fixture(scope="module")
def alone(tuning, body_study, folder) -> Path:
    """The fine-tuning run of one process."""
    finetune(replace(tuning, feed=FeedConfig()), body_study.prepared, folder / "alone")
    return folder / "alone"


@pytest.fixture(scope="module")
def planted(tune_words, folder) -> Ended:
    (folder / "planted.py").write_text(PLANTED)
    program = (sys.executable, folder / "planted.py", folder)
    return Pair(*tune_words, "feed.workers=0", program=program).end()


def test_pretraining_is_that_of_one_process(pretraining, head_study, pretrained, folder):
    pretrain(pretraining, head_study.prepared, folder / "pretrained_alone")
    one, two = rows_of(folder / "pretrained_alone"), rows_of(pretrained)
    assert [row["step"] for row in two] == list(range(30))
    assert furthest(two, one, "reconstruct_hidden") < LOSS_TOLERANCE
    assert weights_apart(folder / "pretrained_alone", pretrained) < WEIGHT_TOLERANCE


WEEKLY = pytest.mark.weekly


@pytest.mark.parametrize(
    "method", ["dinov3", pytest.param("smit_balanced", marks=WEEKLY), pytest.param("mocov3", marks=WEEKLY)]
)
def test_self_distillation_is_that_of_one_process(method, pretraining, head_study, folder):
    """Teachers, centres, Sinkhorn's shares, neighbours, negatives and batch norms are those of the whole batch."""
    config = replace(
        pretraining,
        method=method,
        patch=(2, 4, 4),
        crop=(4, 8, 16),
        hidden_ratio=None,
        drop_path=0.3,
        epochs=5,
        projection=ProjectionConfig(prototypes=16, hidden=12, dim=8),
        contrast=ContrastConfig(hidden=12, dim=8),
    )
    write_yaml(folder / f"{method}.yaml", config)
    words = ("pretrain", "-d", head_study.prepared, "--config", folder / f"{method}.yaml", "-o", folder / method)
    ended = Pair(*words, "--json").end()
    assert ended.code == 0, ended.said
    pretrain(config, head_study.prepared, folder / f"{method}_alone")
    one, two = rows_of(folder / f"{method}_alone"), rows_of(folder / method)
    assert len(two) == len(one) > 3
    assert furthest(two, one) < LOSS_TOLERANCE
    if method != "mocov3":  # its batch norms make gradients that are rounding and nothing else large
        assert weights_apart(folder / f"{method}_alone", folder / method) < WEIGHT_TOLERANCE


def test_finetuning_is_that_of_one_process(finetuned, alone):
    """Drop path, mirrored organs, organs that were not looked for, and a worker that makes batches ahead."""
    run, said = finetuned
    one, two = rows_of(alone), rows_of(run)
    assert [row["step"] for row in two] == list(range(12))
    assert furthest(two, one, "dice_loss", "cross_entropy") < LOSS_TOLERANCE
    assert weights_apart(run, alone) < WEIGHT_TOLERANCE
    assert [row["score"] for row in two] == pytest.approx([row["score"] for row in one], abs=1e-5)
    packages = [read_package(RunFolder(path=path).model).weights for path in (run, alone)]
    for name, weight in packages[0].items():
        np.testing.assert_allclose(weight, packages[1][name], atol=WEIGHT_TOLERANCE, rtol=0)
    # One process speaks.
    assert said.count('"best_score"') == 1


@pytest.mark.weekly
@pytest.mark.parametrize(
    "plant",
    [
        "dice_of_each_process",
        "dice_gradient_of_each_process",
        "paths_of_each_process",
        "mirrors_of_each_process",
    ],
)
def test_a_planted_bug_is_seen(planted, alone, folder, plant):
    found = furthest(rows_of(folder / plant), rows_of(alone), "dice_loss", "cross_entropy")
    assert found > 100 * LOSS_TOLERANCE


def test_processes_begin_at_the_same_step_or_not_at_all(planted):
    assert (
        "1: process 1 of 2: this process found the state after step 6, the first one that after step 5" in planted.said
    )
    assert "0: process 0 of 2: another process of this run ended, or did not answer [PEER_LOST]" in planted.said


def test_gradients_are_added_up_in_one_order_from_the_first_step_on(planted):
    """Three processes and more add up in the order of torch's buckets, which it likes to change after a step."""
    assert planted.said.count("order: 0") == 2
    assert "find_unused_parameters" not in planted.said


def test_stopped_processes_leave_together(planted):
    """Whoever leaves early may have the first one killed while it commits."""
    assert planted.said.count("waited: True") == 2


def test_one_gpu_is_not_given_to_two_processes(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "of a test")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="process 2 on a machine with 1 GPUs"), joined():
        pass


def test_a_batch_that_cannot_be_shared_is_refused(planted, folder):
    assert "error: batch: a batch of 3 cannot be shared equally by 2 processes -> use a multiple of 2" in planted.said
    assert planted.code == 1  # torchrun's own; it names that of the process
    assert "exitcode  : 2" in planted.said
    assert not (folder / "odd").exists()
    assert "internal error" not in planted.said


@pytest.mark.weekly
def test_killed_and_stopped_it_ends_as_if_it_had_not_been(pretraining, head_study, pretrain_words, pretrained, folder):
    run = folder / "interrupted"
    words = (*pretrain_words, "-o", run, "--resume")
    for rank in (1, 0):
        rows = len(rows_of(run)) + 4
        pair = Pair(*words).when(has_rows(run, rows))
        os.kill(pair.member(rank), signal.SIGKILL)
        ended = pair.end()
        assert ended.code == 1
        assert "Signal 9 (SIGKILL)" in ended.said
        assert "internal error" not in ended.said
        assert rows <= len(rows_of(run)) < 30
    rows = len(rows_of(run)) + 4
    pair = Pair(*words).when(has_rows(run, rows))
    pair.process.send_signal(signal.SIGTERM)
    ended = pair.end()
    assert ended.said.count("its state is committed [STOPPED]") == 2
    assert not (run / "lease.json").exists()
    step = load_state(RunFolder(path=run).last)[1]["step"]
    assert rows <= step == len(rows_of(run)) < 30
    shutil.copytree(run, folder / "by_one")

    ended = Pair(*words).end()
    assert ended.code == 0, ended.said
    assert rows_of(run) == rows_of(pretrained)
    assert same_state(run, pretrained)

    with pytest.raises(ConfigError, match="processes 2, here 1") as caught:
        pretrain(pretraining, head_study.prepared, folder / "by_one", resume=True)
    assert caught.value.code == "INEXACT"
    pretrain(pretraining, head_study.prepared, folder / "by_one", resume="inexact")
    # Number formats were measured anew, so it may have gone on in bf16.
    assert furthest(rows_of(folder / "by_one"), rows_of(pretrained)) < 1e-2

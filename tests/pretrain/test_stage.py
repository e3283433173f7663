"""Prepared scans in, an encoder package out; a run that was killed ends as if it had not been."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from apatite.core.config import load, read_yaml, write_yaml
from apatite.core.errors import ConfigError, DataError, TrainingError
from apatite.core.share import WHOLE
from apatite.core.stop import StopRequest
from apatite.engine.checkpoint import load_state, save_state
from apatite.engine.distributed import ALONE
from apatite.engine.journal import Journal
from apatite.engine.place import Place
from apatite.engine.precision import Precision
from apatite.engine.weights import load_weights
from apatite.io.model_package import read_package
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.nn.vit import ViTConfig
from apatite.pretrain import stage
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.stage import pretrain


class KilledError(Exception):
    """Stands for a signal that ends the process."""


def killing(after: int):
    """A watch that stops the run after so many steps."""

    def watch(items, name, total=None):
        for done, item in enumerate(items, 1):
            yield item
            if done == after:
                raise KilledError

    return watch


@pytest.fixture(scope="session")
def finished(prepared_folder, tmp_path_factory) -> Path:
    """One whole run, made once."""
    out = tmp_path_factory.mktemp("runs") / "run"
    torch.set_num_threads(1)
    config = PretrainConfig(
        model="vitiac-xs",
        patch=(4, 4, 8),
        hidden_ratio=0.75,
        epochs=3,
        batch=3,
        check_epochs=1,
        save_every_s=0.0,
        device="cpu",
        precision=Precision(),
    )
    made = pretrain(config, prepared_folder, out)
    assert (made.package, made.steps, made.cases, made.seconds_per_step) == (out / "model", 7, 7, {})
    assert made.last_row == Journal(RunFolder(path=out).metrics).rows()[-1]
    return out


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_state(RunFolder(path=run).last)[0]


def assert_same_run(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert Journal(RunFolder(path=one).metrics).rows() == Journal(RunFolder(path=other).metrics).rows()
    for name in ("model/weights.safetensors", "model/model.json", "reconstructions.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_the_files_of_a_run(finished):
    found = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert found == {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "checkpoints/last",
        "reconstructions.safetensors",
        "model/model.json",
        "model/weights.safetensors",
        "model/MANIFEST.sha256",
    }
    assert load_file(finished / "reconstructions.safetensors")["original"].shape == (4, 2, 8, 12, 16)


def test_the_journal_shows_losses_and_the_panel(finished):
    rows = Journal(finished / "metrics.jsonl").rows()
    # Seven cases in threes: an epoch is 7/3 steps, so the panel is looked at after 2, 4, 6 and the last of 7 steps.
    assert [row["step"] + 1 for row in rows if "probe_dice" in row] == [2, 4, 6, 7]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert {"reconstruct_hidden", "loss", "lr", "gradient_norm"} <= set(rows[-1])


def test_what_would_be_needed_to_do_it_again(finished, prepared_folder):
    config = load(PretrainConfig, read_yaml(finished / "config.yaml"))
    assert (config.epochs, config.precision, config.optim.betas) == (3, Precision(), (0.9, 0.95))
    about = json.loads((finished / "manifest.json").read_text())
    prepared = json.loads((prepared_folder / "prepared.json").read_text())
    assert about["seed"] == 0
    assert about["data_sha256"] == prepared["manifest_sha256"]


def test_the_package_holds_the_last_encoder_and_says_what_it_learned_from(finished):
    package = read_package(finished / "model")
    card = package.card
    assert (card.kind, card.recipe, card.label_names) == ("encoder", "mae", {})
    assert card.domains == {"pretraining": ["phantom", "real"], "training": [], "calibration": [], "reference": []}
    assert (card.input.shape, card.input.spacing_mm, card.input.kind) == ((8, 12, 16), (1.0, 1.0, 1.0), "region")
    encoder = load(ViTConfig, card.architecture).build()
    load_weights(encoder, package)
    last = weights_of(finished)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, last[f"model.branches.vit.encoder.{name}"]), name


def test_it_learns_from_all_cases_of_its_splits_and_no_other(config, prepared_folder, tmp_path, monkeypatch):
    seen = []
    real = stage.PretrainTask.losses

    def spy(self, batch, step):
        seen.extend(batch.case_ids)
        assert batch.targets is None
        return real(self, batch, step)

    monkeypatch.setattr(stage.PretrainTask, "losses", spy)
    pretrain(config, prepared_folder, tmp_path / "run")
    assert set(seen) == {"c0", "c1", "c2", "c3", "c5", "c6", "c8"}
    assert len(seen) == 21


@pytest.mark.parametrize("cuts", [(1,), (2, 5), (6,)])
def test_a_killed_run_ends_bit_equal(config, prepared_folder, finished, tmp_path, cuts):
    out = tmp_path / "run"
    config = replace(config, optim=replace(config.optim, warmup_fraction=0.05, lr=1.5e-4))
    done = 0
    for cut in cuts:
        with pytest.raises(KilledError):
            pretrain(config, prepared_folder, out, resume=done > 0, watch=killing(cut - done))
        done = cut
        assert not (out / "model").exists()
    # What is given with --resume does not count: the run's own configuration does.
    made = pretrain(replace(config, epochs=50, seed=9), prepared_folder, out, resume=True)
    assert made.steps == 7
    assert_same_run(out, finished)


def test_resuming_a_finished_run_changes_nothing(config, prepared_folder, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    made = pretrain(config, prepared_folder, out, resume=True)
    assert made.last_row["step"] == 6
    assert_same_run(out, finished)


def test_a_run_killed_before_the_package_was_written_gets_one(config, prepared_folder, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "model")
    pretrain(config, prepared_folder, out, resume=True)
    assert_same_run(out, finished)


def test_resuming_with_another_length_is_refused(config, prepared_folder, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    write_yaml(out / "config.yaml", replace(load(PretrainConfig, read_yaml(out / "config.yaml")), epochs=4))
    with pytest.raises(ConfigError, match="7 steps with seed 0"):
        pretrain(config, prepared_folder, out, resume=True)


def test_resuming_on_other_data_is_refused(config, prepared_folder, finished, tmp_path):
    out, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(finished, out)
    shutil.copytree(prepared_folder, data)
    about = json.loads((data / "prepared.json").read_text())
    (data / "prepared.json").write_text(json.dumps(about | {"manifest_sha256": "0" * 64}))
    with pytest.raises(DataError, match="other cases"):
        pretrain(config, data, out, resume=True)


def test_resuming_nothing_begins(config, prepared_folder, finished, tmp_path):
    """A batch system starts the same command again and again."""
    out = tmp_path / "none"
    config = load(PretrainConfig, read_yaml(finished / "config.yaml"))
    pretrain(config, prepared_folder, out, resume=True)
    assert_same_run(out, finished)


def test_a_used_folder_is_refused_at_once(config, prepared_folder, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_task", lambda *_: pytest.fail("nothing may be built"))
    with pytest.raises(DataError, match="holds a run already"):
        pretrain(config, prepared_folder, finished)
    (tmp_path / "model").mkdir()
    with pytest.raises(DataError, match="holds a run already"):
        pretrain(config, prepared_folder, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "maee"},
        {"model": "vitiac-xl"},
        {"patch": (3, 4, 4)},
        {"patch": (16, 16, 16)},
        {"hidden_ratio": 0.99},
        {"crop": (4, 4, 4)},
        {"windows_hu": ((100.0, 0.0),)},
        {"precision": None, "device": "tpu"},
    ],
)
def test_a_wrong_setting_is_refused_before_a_folder_is_made(config, prepared_folder, tmp_path, changes):
    with pytest.raises(ConfigError):
        pretrain(replace(config, **changes), prepared_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_case_to_learn_from(config, prepared_folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(prepared_folder, data)
    table = data / "cases.csv"
    table.write_text(table.read_text().replace(",pretrain,", ",test,").replace(",finetune,", ",test,"))
    assert {case.split for case in Prepared.open(data).cases} == {"test", "development"}
    with pytest.raises(DataError, match="EMPTY_SPLIT"):
        pretrain(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_measured_precision_is_written_down_and_never_measured_again(
    config, prepared_folder, tmp_path, monkeypatch
):
    chosen = Precision(head_multiple=16, threads=1)
    measured = []

    def measure(device, make_step):
        make_step(chosen)()
        measured.append(device)
        return chosen, {chosen.name: 0.5}

    monkeypatch.setattr("apatite.engine.run.measure_precision", measure)
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        pretrain(replace(config, precision=None), prepared_folder, out, watch=killing(2))
    assert load(PretrainConfig, read_yaml(out / "config.yaml")).precision == chosen
    made = pretrain(config, prepared_folder, out, resume=True)
    assert (len(measured), made.seconds_per_step) == (1, {})
    whole = tmp_path / "whole"
    assert pretrain(replace(config, precision=None), prepared_folder, whole).seconds_per_step == {chosen.name: 0.5}
    assert_same_run(out, whole)


def test_the_seed_decides_the_first_weights_whatever_the_padding(config, prepared_folder):
    shapes = stage.shapes_of(config, Prepared.open(prepared_folder))
    batches, _ = stage._batches(config, Prepared.open(prepared_folder), WHOLE)
    losses = []
    for seed, multiple in ((0, 1), (0, 48), (0, 1), (1, 1)):
        task = stage._task(replace(config, seed=seed), shapes, 7, ALONE, Precision(head_multiple=multiple))
        task.showing = replace(task.showing, seed=0)
        losses.append(task.losses(batches(0), 0)["reconstruct_hidden"].item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[2] == losses[0]
    assert losses[3] != losses[0]


def test_a_bad_case_is_named_and_the_last_state_is_kept(config, prepared_folder, tmp_path, monkeypatch):
    real = stage.PretrainTask.losses

    def poisoned(self, batch, step):
        losses = real(self, batch, step)
        return {name: loss * float("nan") for name, loss in losses.items()} if step == 3 else losses

    monkeypatch.setattr(stage.PretrainTask, "losses", poisoned)
    with pytest.raises(TrainingError, match=r"step 3, cases c\d, c\d, c\d"):
        pretrain(config, prepared_folder, tmp_path / "run")
    tensors, values = load_state(tmp_path / "run" / "checkpoints" / "last")
    assert values["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert not (tmp_path / "run" / "model").exists()


def test_the_layers_of_the_encoder_may_decay_but_never_rise(config, prepared_folder, tmp_path):
    config = replace(config, optim=replace(config.optim, layer_decay=0.5))
    task = stage._task(config, stage.shapes_of(config, Prepared.open(prepared_folder)), 7, ALONE, Precision())
    place = Place(folder=RunFolder(path=tmp_path), world=ALONE, stop=StopRequest(), is_resumed=False)
    run = stage._run(place, task, config, 7)
    # The blocks, the embedding below, all else above.
    depth = task.encoder.config.depth
    assert {group["lr_scale"] for group in run.optimizer.param_groups} == {0.5**n for n in range(depth + 2)}


@pytest.mark.parametrize(("cases", "steps", "check_every"), [(7, 11, 3), (6, 9, 3), (1, 2, 1)])
def test_epochs_are_counted_in_steps(config, prepared_folder, tmp_path, cases, steps, check_every):
    """Three epochs in batches of two, the last one begun where the cases do not come out even."""
    config = replace(config, batch=2)
    shapes = stage.shapes_of(config, Prepared.open(prepared_folder))
    task = stage._task(config, shapes, stage.num_steps(config, cases), ALONE, Precision())
    place = Place(folder=RunFolder(path=tmp_path), world=ALONE, stop=StopRequest(), is_resumed=False)
    run = stage._run(place, task, config, cases)
    assert (run.plan.steps, run.pace.check_every) == (steps, check_every)


def test_where_whole_regions_lie_is_not_asked(config, prepared_folder, tmp_path):
    with pytest.raises(ConfigError, match="every crop is all of its volume"):
        pretrain(replace(config, method="mae_position"), prepared_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_weights_of_terms_are_configured(config, prepared_folder):
    shapes = stage.shapes_of(config, Prepared.open(prepared_folder))
    task = stage._task(replace(config, weights={"reconstruct_hidden": 0.25}), shapes, 7, ALONE, Precision())
    plain = stage._task(config, shapes, 7, ALONE, Precision())
    batches, _ = stage._batches(config, Prepared.open(prepared_folder), WHOLE)
    one, other = (made.losses(batches(0), 0)["reconstruct_hidden"] for made in (task, plain))
    torch.testing.assert_close(one, 0.25 * other)


def test_a_run_of_before_branches_goes_on_by_the_names_of_then(config, prepared_folder, finished, tmp_path):
    """Its checkpoint called the encoder `encoder` and the head by its term."""
    out = tmp_path / "run"
    config = replace(config, optim=replace(config.optim, warmup_fraction=0.05, lr=1.5e-4))
    with pytest.raises(KilledError):
        pretrain(config, prepared_folder, out, watch=killing(4))
    tensors, values = load_state(out / "checkpoints" / "last")
    before = {
        name.replace("model.branches.vit.encoder.", "model.encoder.").replace(
            "model.branches.vit.reconstruct.", "model.terms.reconstruct_hidden.head."
        ): tensor
        for name, tensor in tensors.items()
    }
    assert not any("branches" in name for name in before)
    save_state(out / "checkpoints" / "last", before, values)
    pretrain(config, prepared_folder, out, resume=True)
    assert_same_run(out, finished)


READ_BACK = """
import sys
from pathlib import Path
from apatite.core.config import load
from apatite.engine.checkpoint import load_state
from apatite.engine.weights import load_weights
from apatite.io.model_package import read_package
from apatite.nn.vit import ViTConfig

forbidden = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "socket.connect")

def hook(event, arguments):
    if event in forbidden:
        print(event, flush=True)

sys.addaudithook(hook)
run = Path(sys.argv[1])
load_state(run / "checkpoints" / "last")
package = read_package(run / "model")
load_weights(load(ViTConfig, package.card.architecture).build(), package)
if len(sys.argv) > 2:
    import pickle
    pickle.loads(pickle.dumps(Path))
print("done")
"""


def test_reading_a_run_back_unpickles_and_starts_nothing(finished):
    for more, expected in (([], "done\n"), (["fire"], "pickle.find_class\ndone\n")):
        arguments = [sys.executable, "-c", READ_BACK, str(finished), *more]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout == expected

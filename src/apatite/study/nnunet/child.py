"""nnU-Net, planned, trained within a stated time, and asked: what runs in its own interpreter.

It is started by its path, with a verb, settings as JSON and the number of a pipe into which it writes rows of JSON. It
and its neighbours `child_*` know nothing of Apatite: standard library, torch, nnunetv2. What nnU-Net prints goes to a
log, and the files are nnU-Net's own. When whoever started it is gone, its whole process group ends.

Source: nnunetv2 2.8.1: `plan_and_preprocess_api`, `run_training`, `predict_from_raw_data`.
"""

import importlib.metadata
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

FILES = "batchgenerators.utilities.file_and_folder_operations"

Say = Callable[..., None]
Settings = Mapping[str, Any]


def versions(settings: Settings, say: Say) -> None:
    """What is installed; nothing of it is imported, so that nothing can fail."""
    del settings
    found = [name for name in ("nnunetv2", "torch") if importlib.util.find_spec(name) is not None]
    say("versions", python=sys.version.split()[0], **{name: importlib.metadata.version(name) for name in found})


def plan(settings: Settings, say: Say) -> None:
    """Look at the data set, plan, shrink the plan as asked, and preprocess."""
    api = import_module("nnunetv2.experiment_planning.plan_and_preprocess_api")
    planners = import_module("nnunetv2.experiment_planning.experiment_planners.network_topology")
    planning = _neighbour("child_planning")
    dataset, configuration, processes = settings["dataset"], settings["configuration"], settings["processes"]
    api.extract_fingerprint_dataset(dataset, num_processes=processes, check_dataset_integrity=True, verbose=False)
    plans, name = api.plan_experiment_dataset(dataset, overwrite_target_spacing=settings["spacing_mm"])
    if configuration not in plans["configurations"]:
        raise SystemExit(f"nnU-Net planned {', '.join(plans['configurations'])} for these data, no {configuration}")
    base = plans["configurations"][configuration]
    if any(settings[key] is not None for key in planning.SHRINKS):

        def topology(patch: Sequence[int]) -> tuple[Any, Any, Any]:
            _, strides, kernels, padded, _ = planners.get_pool_and_conv_props(
                base["spacing"], patch, planning.LEAST_EDGE, 999999
            )
            return strides, kernels, padded

        configuration = f"{configuration}_shrunk"
        plans["configurations"][configuration] = planning.shrunk(base, settings, plans["transpose_forward"], topology)
        file = Path(settings["preprocessed"]) / plans["dataset_name"] / f"{name}.json"
        import_module(FILES).save_json(plans, str(file), sort_keys=False)
    api.preprocess_dataset(dataset, name, (configuration,), (processes,))
    say("planned", configuration=configuration, plans=name, plan=plans["configurations"][configuration])


def train(settings: Settings, say: Say) -> None:
    """Train for the stated time, or go on where an interrupted training was saved last."""
    torch, numpy = import_module("torch"), import_module("numpy")
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(settings["seed"])
    device = _device(torch, settings)
    torch.backends.cudnn.benchmark = True
    base = import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer
    make_pace = _neighbour("child_pace").Pace
    trainer_class = _neighbour("child_training").make_trainer(base, make_pace, settings, say)
    folder = Path(settings["preprocessed"]) / settings["dataset_name"]
    plans, description = (
        import_module(FILES).load_json(str(folder / f"{name}.json")) for name in (settings["plans"], "dataset")
    )
    fold, is_begun = Path(settings["model"]) / "fold_0", settings["num_epochs"] is not None
    latest, final = fold / "checkpoint_latest.pth", fold / "checkpoint_final.pth"
    # nnU-Net removes the one when it writes the other: what is finished is not to be begun again.
    is_done = is_begun and final.exists()
    is_resumed = is_done or (is_begun and latest.exists())
    trainer = trainer_class(
        plans=plans | {"continue_training": is_resumed},
        configuration=settings["configuration"],
        fold=0,
        dataset_json=description,
        device=device,
    )
    if is_resumed:
        trainer.load_checkpoint(str(final if is_done else latest))
        say("resumed", epoch=trainer.current_epoch)
    if not is_done:
        trainer.run_training()
    if settings["validate"]:
        trainer.perform_actual_validation(True)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    say("trained", device=device.type, threads=torch.get_num_threads(), peak_gpu_bytes=peak)


def predict(settings: Settings, say: Say) -> None:
    """Predict cases one after another, with probabilities; a case that is there is not predicted again."""
    torch = import_module("torch")
    device = _device(torch, settings)
    predictor = import_module("nnunetv2.inference.predict_from_raw_data").nnUNetPredictor(
        use_mirroring=settings["mirror"],
        perform_everything_on_device=device.type == "cuda",
        device=device,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(settings["model"], (0,), "checkpoint_final.pth")
    ending, out = predictor.dataset_json["file_ending"], Path(settings["out"])
    part = out / ".part"
    part.mkdir(parents=True, exist_ok=True)
    for case_id in settings["cases"]:
        if not (out / f"{case_id}{ending}").exists():
            channels = sorted(Path(settings["images"]).glob(f"{case_id}_[0-9][0-9][0-9][0-9]{ending}"))
            predictor.predict_from_files_sequential([[str(file) for file in channels]], [str(part / case_id)], True)
            # The label map comes last: where it lies, all of the case does.
            for name in ("dataset.json", "plans.json", f"{case_id}.npz", f"{case_id}{ending}"):
                (part / name).replace(out / name)
        say("case", case_id=case_id)
    shutil.rmtree(part)


VERBS: dict[str, Callable[[Settings, Say], None]] = {
    "versions": versions,
    "plan": plan,
    "train": train,
    "predict": predict,
}


def main(arguments: Sequence[str]) -> None:
    """Run one verb: its name, settings as JSON, and the number of the pipe for rows."""
    verb, settings, pipe = arguments[0], json.loads(arguments[1]), int(arguments[2])
    os.set_inheritable(pipe, False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The neighbours of this file are no modules of nnU-Net's.
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if not place or Path(place).resolve() != here]
    # nnU-Net reads these when it is imported.
    variables = {name: settings.get(name, "") for name in ("raw", "preprocessed", "results")}
    variables |= {"def_n_proc": settings.get("processes", 1), "n_proc_DA": settings.get("workers", 1)}
    os.environ |= {f"nnUNet_{name}": str(value) for name, value in variables.items()}

    def say(event: str, **values: Any) -> None:
        os.write(pipe, (json.dumps({"event": event, **values}, allow_nan=False) + "\n").encode())

    VERBS[verb](settings, say)


def _neighbour(name: str) -> ModuleType:
    """A file beside this one, under a name that no package of nnU-Net's can have."""
    spec = importlib.util.spec_from_file_location(f"apatite_nnunet_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _device(torch: Any, settings: Settings) -> Any:
    name = settings["device"]
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1 if name == "cuda" else settings["processes"])
    return torch.device(name)


def _end_with_parent() -> None:
    # Standard input is a pipe whose other end is held by whoever started this; it closes when that one ends.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])

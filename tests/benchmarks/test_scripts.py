"""Every benchmark script explains itself without its peers; the quick ones end with a line of JSON."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = [path for path in sorted(BENCHMARKS.rglob("*.py")) if "\ndef main(" in path.read_text()]
PEERS = (
    "batchgenerators",
    "batchgeneratorsv2",
    "blosc2",
    "cripser",
    "monai",
    "nnunetv2",
    "ot",
    "timm",
    "torchio",
    "torchvision",
)


def name_of(path: Path) -> str:
    return path.relative_to(BENCHMARKS).as_posix()


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def without_peers(monkeypatch) -> None:
    """As in an environment where only the package is installed; what scripts share is read anew."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in list(sys.modules):
        if (BENCHMARKS / f"{name}.py").exists() or (BENCHMARKS / "gpu" / f"{name}.py").exists():
            monkeypatch.delitem(sys.modules, name)
        if name.partition(".")[0] in PEERS:
            monkeypatch.delitem(sys.modules, name)
    for peer in PEERS:
        monkeypatch.setitem(sys.modules, peer, None)


def test_the_scripts_are_found():
    found = {name_of(path) for path in SCRIPTS}
    assert found >= {"crops.py", "augment.py", "sliding.py", "roi_inference.py", "gpu/g1_mae_step.py"}
    assert {f"gpu/g{number}" in " ".join(found) for number in (1, 2, 3, 4)} == {True}


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_help_needs_no_peer(path, without_peers, capsys):
    module = load(path)
    with pytest.raises(SystemExit) as left:
        module.main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert module.__doc__.splitlines()[0] in text
    assert "--quick" in text


@pytest.mark.weekly
@pytest.mark.parametrize("name", ["sliding.py", "gpu/g2_attention.py"])
def test_a_quick_run_ends_with_its_ratios(name, tmp_path):
    out = tmp_path / "result.json"
    # A process of its own: the peers warn when they are imported, and warnings are errors here.
    command = [sys.executable, str(BENCHMARKS / name), "--quick", "--threads", "1", "--out", str(out)]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if name.startswith("gpu/") else {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["benchmark"] == name.removesuffix(".py")
    assert last["ratios"] or last["skipped"]
    assert all(ratio > 0 for ratio in last["ratios"].values())
    kept = json.loads(out.read_text())
    assert kept["ratios"] == last["ratios"]
    assert kept["rows"]
    assert str(tmp_path) not in out.read_text()
    if name.startswith("gpu/"):
        assert last["facts"]["toy"] is True
        assert last["facts"]["device"] == "cpu"


def test_results_that_differ_stop_the_sliding_benchmark():
    sliding = load(BENCHMARKS / "sliding.py")
    made = {name: sliding.MAKERS[name]((20, 18, 21), 16, 2, "conv") for name in ("ours", "ours_slabs")}
    sliding.refuse_different(made)
    with pytest.raises(RuntimeError, match="MONAI differs"):
        sliding.refuse_different(made | {"monai": lambda: made["ours"]() + 2e-5})
    with pytest.raises(RuntimeError, match="slabs differ"):
        sliding.refuse_different(made | {"ours_slabs": lambda: 3 - made["ours_slabs"]()})

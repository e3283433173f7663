"""Importing has no effect: the command answers before any heavy module is loaded."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "scipy", "pydantic", "nibabel", "zarr", "matplotlib", "SimpleITK", "numba", "jinja2")

REPORT = """
import json, sys
{code}
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})), file=sys.stderr)
"""


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after some code."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(code=code)], capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import apatite",
        "import apatite.cli.main",
        "from apatite.cli.main import run\nassert run(['--help']) == 0",
        "from apatite.cli.main import run\nassert run(['pretrain', '--help']) == 0",
        "from apatite.cli.main import run\nassert run(['--version']) == 0",
        "from apatite.cli.main import run\nassert run(['pretain']) == 2",
    ],
)
def test_no_heavy_module_is_loaded(code):
    assert not loaded_after(code) & set(HEAVY)


def test_importing_prints_nothing_and_leaves_signals_and_warnings_alone():
    code = (
        "import signal, warnings\n"
        "before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), list(warnings.filters)]\n"
        "import apatite.cli.main\n"
        "assert before == [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), list(warnings.filters)]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_probe_sees_a_heavy_module():
    assert "numpy" in loaded_after("import numpy")

"""Nothing in the package unpickles, evaluates text or runs a shell: what is read can never become code.

The list is a syntax tree's, not a text search: `model.eval()` and `re.compile` are no hits, an alias is one.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "apatite"

MODULES = {"pickle", "_pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "jsonpickle"}
CALLS = {
    "torch.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {"extractall", "unpack_archive"}
"""Whatever they are called on."""
ONE_READER = "engine/foreign_torch.py", "torch.load"
"""The one place that may unpickle: with `weights_only=True`, in a process of its own, after what stands before it."""
FALSE_ONLY = {"allow_pickle", "shell"}
TRUE_ONLY = {"weights_only"}


def findings(code: str) -> list[str]:
    """What is forbidden in some code, as `line: what`."""
    tree = ast.parse(code)
    names = dict(_imported(tree))
    return sorted(f"{line}: {what}" for node in ast.walk(tree) for line, what in _forbidden(node, names))


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """From the local name to the full one, of everything that is imported anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    alias.asname or alias.name.split(".")[0],
                    alias.name if alias.asname else alias.name.split(".")[0],
                )
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _forbidden(node: ast.AST, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] in MODULES)
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
        yield node.lineno, str(node.module)
    # A name is enough, called or not: `read = torch.load` is a hit.
    if isinstance(node, ast.Attribute | ast.Name):
        full = _full_name(node, names)
        is_builtin = isinstance(node, ast.Name) and node.id in BUILTINS and node.id not in names
        is_builtin |= full.startswith("builtins.") and full.removeprefix("builtins.") in BUILTINS
        if full in CALLS or is_builtin:
            yield node.lineno, full
    if isinstance(node, ast.Attribute) and node.attr in METHODS:
        yield node.lineno, node.attr
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            is_wrong = keyword.arg in FALSE_ONLY and not _is(keyword.value, False)
            if is_wrong or (keyword.arg in TRUE_ONLY and not _is(keyword.value, True)):
                yield node.lineno, f"{keyword.arg}=…"


def _full_name(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return ""


def _is(value: ast.AST, wanted: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted


def test_the_package_has_none():
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 50
    hits = [(path.relative_to(SOURCE).as_posix(), hit) for path in files for hit in findings(path.read_text("utf-8"))]
    assert {(file, hit.partition(": ")[2]) for file, hit in hits} == {ONE_READER}


def test_the_one_reader_never_reads_without_restrictions():
    """`weights_only=False` and a variable are findings; leaving it out would be none, so every call must have it."""
    tree = ast.parse((SOURCE / ONE_READER[0]).read_text("utf-8"))
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and _full_name(node.func, {}) == ONE_READER[1]
    ]
    assert len(calls) == len(findings((SOURCE / ONE_READER[0]).read_text("utf-8")))
    assert all("weights_only" in {keyword.arg for keyword in call.keywords} for call in calls)


@pytest.mark.parametrize(
    "code",
    [
        *(f"import {name}" for name in sorted(MODULES)),
        "import pickle as p",
        "from pickle import loads",
        "def f():\n    import joblib.numpy_pickle",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=True)",
        "from torch import load\nload('x')",
        "from torch import load as read\nread('x')",
        "import torch\nread = torch.load",
        "import torch.jit\ntorch.jit.load('x')",
        "from torch import jit\njit.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=wanted)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.unsafe_load(text)",
        "eval('1')",
        "exec(code)",
        "run = eval",
        "compile('1', 'f', 'eval')",
        "import builtins\nbuiltins.exec(code)",
        "__import__('os')",
        "import os\nos.system('ls')",
        "from os import system\nsystem('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess\nsubprocess.run('ls', shell=flag)",
        "archive.extractall('x')",
        "import shutil\nshutil.unpack_archive('x')",
        "model.load('x', weights_only=False)",
    ],
)
def test_the_scanner_fires(code):
    assert len(findings(code)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import torch\ntorch.compile(model)",
        "import re\nre.compile('x')",
        "from safetensors.numpy import load\nload(b'')",
        "from apatite.core.config import load\nload(C, {})",
        "import yaml\nyaml.safe_load(text)",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import numpy as np\nnp.load('x', mmap_mode='r')",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "text = 'pickle.loads'",
    ],
)
def test_the_scanner_stays_quiet(code):
    assert findings(code) == []

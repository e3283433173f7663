"""Plant known bugs one at a time, each in a copy of the source, and see whether the suite notices.

Every entry of `mutants.toml` is a small edit of one file. The tests it names must pass on an unchanged copy and fail
on the edited one. `make mutants` plants them all; the working tree is never touched.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
LIMIT_S = 300
IS_IT = "import apatite, pathlib, sys; sys.exit(not pathlib.Path(apatite.__file__).is_relative_to(sys.argv[1]))"
FLAGS = ["-q", "-x", "-rfE", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
OUTCOMES = {0: "passed", 1: "failed"}
"""Of pytest's exit codes; any other one means that the tests did not run."""


def outcome_of(tests: list[str], copy: Path) -> tuple[str, str]:
    """Run tests on a copy of the package: `passed`, `failed`, `hung` or `broken`, and where."""
    env = os.environ | {"PYTHONPATH": str(copy), "HYPOTHESIS_STORAGE_DIRECTORY": str(copy / "examples")}
    if subprocess.run([sys.executable, "-c", IS_IT, copy], cwd=REPO, env=env, check=False).returncode:
        return "broken", "the copy is not what is imported"
    command = [sys.executable, "-m", "pytest", *FLAGS, *tests]
    try:
        done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return "hung", f"after {LIMIT_S} s"
    where = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    last_line = (done.stdout + done.stderr).strip().rpartition("\n")[2]
    return OUTCOMES.get(done.returncode, "broken"), where[1] if where else last_line


def plant(mutant: dict, pristine: Path) -> tuple[str, str]:
    """Whether a bug is `caught`, and by which test; any other outcome is a hole."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(pristine, Path(folder) / "src"))
        path = copy / "apatite" / mutant["file"]
        source = path.read_text(encoding="utf-8")
        if source.count(mutant["find"]) != mutant.get("count", 1):
            return "orphaned", f"{mutant['file']} holds it {source.count(mutant['find'])} times"
        path.write_text(source.replace(mutant["find"], mutant["replace"]), encoding="utf-8")
        outcome, where = outcome_of(mutant["tests"], copy)
    is_caught = outcome == "failed" or (outcome == "hung" and mutant.get("hangs", False))
    return "caught" if is_caught else "SURVIVED" if outcome == "passed" else outcome, where


def main() -> int:
    """0 when every bug is caught."""
    mutants = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))["mutant"]
    names = [mutant["name"] for mutant in mutants]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, default=names, help="these bugs")
    parser.add_argument("--workers", type=int, default=1, help="bugs tried at the same time")
    given = parser.parse_args()
    mutants = [mutant for mutant in mutants if mutant["name"] in given.only]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.workers) as pool:
        no_caches = shutil.ignore_patterns("__pycache__")
        pristine = Path(shutil.copytree(REPO / "src", Path(folder) / "src", ignore=no_caches))
        tests = sorted({tuple(mutant["tests"]) for mutant in mutants})
        before = dict(zip(tests, pool.map(lambda chosen: outcome_of([*chosen], pristine), tests), strict=True))

        def judge(mutant: dict) -> bool:
            start, (outcome, where) = time.monotonic(), before[tuple(mutant["tests"])]
            outcome, where = plant(mutant, pristine) if outcome == "passed" else (f"{outcome} before", where)
            sys.stdout.write(f"{mutant['name']:<42} {outcome:<14} {time.monotonic() - start:5.1f} s  {where}\n")
            sys.stdout.flush()
            return outcome == "caught"

        caught = sum(pool.map(judge, mutants))
    sys.stdout.write(f"{caught} of {len(mutants)} planted bugs caught\n")
    return int(caught < len(mutants))


if __name__ == "__main__":
    sys.exit(main())

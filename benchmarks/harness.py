"""What every benchmark script shares: options, paired timing, memory, limits, a table, one line of JSON.

A whole script, `benchmarks/sorting.py` (run as `python benchmarks/sorting.py --quick`):

    '''Sorting numbers: torch against numpy. This paragraph is printed by --help and on docs/benchmarks.md.'''

    import numpy as np
    import torch
    from harness import Benchmark, compare, ratio_of, median

    def main(arguments: list[str] | None = None) -> None:
        bench = Benchmark.start(__doc__, __file__, packages=("torch", "numpy"), arguments=arguments)
        for size in (1_000,) if bench.quick else (1_000, 1_000_000):
            numbers = torch.randn(size)
            times = compare({"ours": lambda: numbers.sort(), "numpy": lambda: np.sort(numbers.numpy())}, repeats=5)
            best_s = 2 * 4 * size / bench.limits.stream
            bench.row(size=size, ours_ms=1e3 * median(times["ours"]), numpy_ms=1e3 * median(times["numpy"]),
                      ratio=ratio_of(times, "numpy"), limit_fraction=best_s / median(times["ours"]))
            bench.ratio(f"{size}_numbers", ratio_of(times, "numpy"))
        bench.finish()

    if __name__ == "__main__":
        main()

Rules. Peers are an extra (`pip install apatite[bench]`): import them inside the function that needs them, and where one
is missing say so with `bench.skip("torchio", "not installed")`. A ratio is peer over ours: above 1 we are faster. What
did not run is a row with a note, never silence. `compare(..., wait=torch.cuda.synchronize)` on a GPU.
`peak_memory(make_step, 8, "fp32", threads=bench.threads)` runs `make_step(8, "fp32")()` in a fresh process. More
options: `Benchmark.start(..., options=lambda parser: parser.add_argument("--minutes", type=float, default=8))`, read
from `bench.options`. A script in a folder below first puts `benchmarks/` on `sys.path`. `bench.limits` measures the
machine when first read; where no limit column is wanted, do not read it.
"""

import json
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from apatite.core.commit import commit_json
from machine import Limits, describe_machine, measure_limits, versions_of
from memory import Memory, peak_memory

__all__ = ["Benchmark", "Limits", "Memory", "compare", "median", "median_of", "peak_memory", "ratio_of", "timed"]

FOLDER = Path(__file__).resolve().parent
Cell = str | int | float | None


def median(values: Iterable[float]) -> float:
    """The middle of the values."""
    return statistics.median(values)


def timed(function: Callable[[], Any], wait: Callable[[], Any] | None = None) -> float:
    """Seconds of one call; `wait` lets a device finish."""
    if wait:
        wait()
    start = time.perf_counter()
    function()
    if wait:
        wait()
    return time.perf_counter() - start


def compare(
    sides: dict[str, Callable[[], Any]],
    repeats: int = 5,
    warmups: int = 1,
    wait: Callable[[], Any] | None = None,
) -> dict[str, list[float]]:
    """Time several functions in turn, a b c a b c …, so that a slow minute of the machine meets all of them.

    Args:
        sides: Name and function; the names go into the table.
        repeats: Rounds that count.
        warmups: Rounds before them.
        wait: Lets a device finish, for example `torch.cuda.synchronize`.

    Returns:
        Seconds of every round, by name.
    """
    for _ in range(warmups):
        for function in sides.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, function in sides.items():
            seconds[name].append(timed(function, wait))
    return seconds


def median_of(function: Callable[[], Any], repeats: int = 5, wait: Callable[[], Any] | None = None) -> float:
    """Median seconds of one function alone, after one call to warm up."""
    return median(compare({"only": function}, repeats, wait=wait)["only"])


def ratio_of(seconds: dict[str, list[float]], peer: str, ours: str = "ours") -> float:
    """Median over the rounds of peer's time over ours: above 1 we are faster."""
    return median(b / a for a, b in zip(seconds[ours], seconds[peer], strict=True))


@dataclass(kw_only=True)
class Benchmark:
    """One run of one script, from its options to its last line.

    Attributes:
        name: Of the script, with its folder: `gpu/g1_mae_step`.
        about: The script's docstring.
        options: What was asked for on the command line.
        command: How to run it again.
        packages: Versions of what is compared.
        rows: The table.
        ratios: Peer over ours, by what was measured.
        skipped: What could not be measured, and why.
        facts: Anything else worth keeping, such as `{"device": "cpu", "toy": True}`.
    """

    name: str
    about: str
    options: Namespace
    command: str
    packages: dict[str, str]
    rows: list[dict[str, Cell]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        about: str | None,
        script: str,
        *,
        packages: tuple[str, ...] = (),
        arguments: list[str] | None = None,
        options: Callable[[ArgumentParser], Any] | None = None,
    ) -> "Benchmark":
        """Read the command line and set the threads.

        Args:
            about: The script's `__doc__`.
            script: The script's `__file__`.
            packages: Names of the distributions that are compared, whose versions are written down.
            arguments: Instead of `sys.argv[1:]`.
            options: Adds options of its own to the parser.
        """
        name = Path(script).resolve().relative_to(FOLDER).with_suffix("").as_posix()
        parser = ArgumentParser(prog=f"{name}.py", description=about, formatter_class=RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="small sizes; writes no result unless --out is given")
        parser.add_argument("--threads", type=int, default=2, help="CPU threads for every side (default 2)")
        parser.add_argument("--out", type=Path, help=f"result file (default benchmarks/results/{name}.json)")
        if options:
            options(parser)
        words = sys.argv[1:] if arguments is None else arguments
        chosen = parser.parse_args(words)
        torch.set_num_threads(chosen.threads)
        command = " ".join(["python", f"benchmarks/{name}.py", *_without_out(words)])
        return cls(
            name=name,
            about=about or "",
            options=chosen,
            command=command,
            packages=versions_of(("torch", *packages)),
        )

    @property
    def quick(self) -> bool:
        """Whether small sizes were asked for."""
        return self.options.quick

    @property
    def threads(self) -> int:
        """CPU threads of every side."""
        return self.options.threads

    @cached_property
    def limits(self) -> Limits:
        """What this machine can do at best, measured when first read."""
        return measure_limits(repeats=3 if self.quick else 7)

    def row(self, **cells: Cell) -> None:
        """Add a row to the table; columns appear in the order in which they first come."""
        self.rows.append(cells)

    def ratio(self, name: str, value: float) -> None:
        """Keep one ratio, peer over ours."""
        self.ratios[name] = round(value, 3)

    def skip(self, what: str, why: str) -> None:
        """Say that something was not measured."""
        self.skipped[what] = why

    def finish(self) -> None:
        """Print the table, keep the result, and print one line of JSON last."""
        out = self.options.out or (None if self.quick else FOLDER / "results" / f"{self.name}.json")
        result = self.result()
        Console(width=None if sys.stdout.isatty() else 160).print(self._table())
        for what, why in self.skipped.items():
            print(f"not measured: {what}: {why}")
        if out:
            commit_json(out, result)
        short = ("benchmark", "ratios", "skipped", "facts", "threads", "quick", "packages")
        print(json.dumps({key: result[key] for key in short}, allow_nan=False))

    def result(self) -> dict[str, Any]:
        """All that is kept."""
        return {
            "benchmark": self.name,
            "command": self.command,
            "date": date.today().isoformat(),
            "machine": describe_machine(),
            "threads": self.threads,
            "quick": self.quick,
            "packages": self.packages,
            # Only where it was asked for: measuring costs seconds.
            "limits": asdict(self.limits) if "limits" in self.__dict__ else None,
            "rows": [{name: _rounded(cell) for name, cell in row.items()} for row in self.rows],
            "ratios": self.ratios,
            "skipped": self.skipped,
            "facts": self.facts,
        }

    def _table(self) -> Table:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        table = Table(*(name.replace("_", " ") for name in columns), title=self.name)
        for row in self.rows:
            table.add_row(*(text_of(_rounded(row.get(name))) for name in columns))
        return table


def text_of(cell: Cell) -> str:
    """A cell in a table: nothing for what was not measured."""
    if cell is None:
        return ""
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:g}" if isinstance(cell, float) else cell


def _rounded(cell: Cell) -> Cell:
    """Four significant digits: more would be noise."""
    return float(f"{cell:.4g}") if isinstance(cell, float) else cell


def _without_out(words: list[str]) -> list[str]:
    """The command line without `--out`, which names a folder of this machine."""
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith("--out"):
            kept.append(word)
        skip = word == "--out"
    return kept

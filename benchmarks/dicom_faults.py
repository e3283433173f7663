"""Faulty DICOM series whose right answer is known: how often does a reader give a wrong volume without a word?

An analytic head is written as CT series with one fault each: order, missing slices, mixed patients, tilt, impossible
geometry, rescale, encodings, truncation, odd headers, odd folders; three severities, and up to three bases (even;
tilted by 15° with steps of 5 and 7 mm; feet first and oblique). Every tool reads the same folders in a child process of
its own, and one plain arithmetic measures what it hands over. Right is the right volume, centroid, side and values, or
a refusal where refusing is right; refused for another reason is a refusal whose code names something else (only Apatite
has codes); over-refused could have been read; loud is wrong, but something was printed or logged; silent is wrong
without a word. Apatite is judged to 2 % of the volume, 0.5 mm and 1 HU; the others, which may interpolate, to 6 %, 2 mm
and 15 HU, and may read what only a rule of measuring calcium forbids (two slices, MR). Where a slice is missing, a
volume of the rest counts as right only with a flag (or a printed word).
"""

import re
import shutil
import time
from argparse import ArgumentParser
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from faulty_series.grid import KINDS, Case, cases
from faulty_series.judge import LOOSE, STRICT, judge
from faulty_series.worker import OURS, Worker
from harness import Benchmark

TOOLS = (OURS, "SimpleITK", "dicom2nifti", "dcm2niix", "highdicom")
PACKAGES = ("pydicom", "SimpleITK", "dicom2nifti", "dcm2niix", "highdicom", "numpy")
ROWS = {
    "right, or rightly refused": ("right", "refused_right_code"),
    "refused for another reason": ("refused_other_code",),
    "over-refused": ("over_refused",),
    "loud": ("loud",),
    "silent": ("silently_wrong",),
    "crashed or hung": ("crashed",),
}
LIMIT_S = 10.0


def main(arguments: list[str] | None = None) -> None:
    def options(parser: ArgumentParser) -> None:
        parser.add_argument("--match", default="", help="only cases whose name matches, such as `^geometry/tilt`")
        parser.add_argument("--tools", default=",".join(TOOLS), help="which tools, separated by commas")

    bench = Benchmark.start(__doc__, __file__, packages=PACKAGES, arguments=arguments, options=options)
    tools = [tool for tool in bench.options.tools.split(",") if tool in TOOLS]
    chosen = [case for case in cases() if re.search(bench.options.match, case.name)]
    # Prime to the three severities, so that all of them come.
    chosen = chosen[::7] if bench.quick else chosen
    start = time.perf_counter()
    verdicts, strange = run(chosen, tools)
    report(bench, chosen, verdicts)
    bench.facts |= {
        "kinds": len({(case.family, case.kind) for case in chosen}),
        "all_kinds": sum(map(len, KINDS.values())),
        "seconds": round(time.perf_counter() - start),
        "flags_without_reason": strange,
        "failures": [f"{name}: {verdict}" for name, verdict in verdicts.get(OURS, {}).items() if not is_good(verdict)],
    }
    bench.finish()


def is_good(verdict: str) -> bool:
    """Whether a verdict is what one wants."""
    return verdict in ("right", "refused_right_code")


def run(chosen: list[Case], tools: list[str]) -> tuple[dict[str, dict[str, str]], int]:
    """Verdicts by tool and case; and in how many cases Apatite raised a flag that nothing explains."""
    verdicts: dict[str, dict[str, str]] = defaultdict(dict)
    strange = 0
    workers = {tool: Worker(tool, LIMIT_S) for tool in tools}
    try:
        with TemporaryDirectory() as name:
            for number, case in enumerate(chosen):
                place = Path(name) / str(number)
                place.mkdir()
                expected = case.make(place)
                for tool, worker in workers.items():
                    outcome = worker.read(place)
                    verdicts[tool][case.name] = judge(outcome, expected, STRICT if tool == OURS else LOOSE)
                    strange += bool(outcome.flags - expected.flags - expected.needed)
                for left in Path(name).iterdir():
                    shutil.rmtree(left)
    finally:
        for worker in workers.values():
            worker.close()
    return verdicts, strange


def report(bench: Benchmark, chosen: list[Case], verdicts: dict[str, dict[str, str]]) -> None:
    """Counts of each verdict, then silent mistakes by class of fault and by base."""
    counts = {tool: Counter(found.values()) for tool, found in verdicts.items()}
    for what, names in ROWS.items():
        bench.row(
            what=what, folders=len(chosen), **{tool: sum(count[n] for n in names) for tool, count in counts.items()}
        )
    for family in dict.fromkeys(case.family for case in chosen):
        _silent(bench, f"silent: {family}", [case for case in chosen if case.family == family], verdicts)
    for base in dict.fromkeys(case.base for case in chosen):
        _silent(bench, f"silent: {base} base", [case for case in chosen if case.base == base], verdicts)


def _silent(bench: Benchmark, what: str, some: list[Case], verdicts: dict[str, dict[str, str]]) -> None:
    found = {tool: sum(by[case.name] == "silently_wrong" for case in some) for tool, by in verdicts.items()}
    bench.row(what=what, folders=len(some), **found)


if __name__ == "__main__":
    main()

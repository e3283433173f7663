"""Few labels on real CT: is a pre-trained encoder better than none, at 10 and at 40 labelled cases, and than MONAI?

Every row is one training run that can be stopped at any moment and goes on where it was:

    python benchmarks/openkbp_fewshot.py --list              rows, what is done, expected minutes
    python benchmarks/openkbp_fewshot.py --peer-check        does the peer do what it was seen to do? (about 12 minutes)
    python benchmarks/openkbp_fewshot.py --row tuned-10-s0   one row, with nothing else running
    python benchmarks/openkbp_fewshot.py --next 40           open rows in order, as long as they fit into 40 minutes
    python benchmarks/openkbp_fewshot.py --table             the page docs/results/openkbp_fewshot.md

Finished rows are JSON files in `benchmarks/results/openkbp_fewshot/`. Two cores, nothing beside it: rows record wall
seconds, and what is compared at equal total time takes its length from them.
"""

import json
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

if __package__:
    # `python -m benchmarks.openkbp_fewshot` finds its neighbours as `python benchmarks/openkbp_fewshot.py` does.
    sys.path.insert(0, str(Path(__file__).resolve().parent))

if TYPE_CHECKING:
    from fewshot.folders import Work
    from fewshot.results import Result
    from fewshot.rows import Row

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results" / "openkbp_fewshot"
PAGE = FOLDER.parent / "docs" / "results" / "openkbp_fewshot.md"
DATA = FOLDER.parents[1] / "shared" / "data" / "openkbp"
QUICK_S = 60.0


def main(arguments: list[str] | None = None) -> int:
    """Do what was asked for; the exit status is 1 where the peer is not what it was, or a row cannot be run."""
    options = _parser().parse_args(arguments)
    from apatite.core.errors import ApatiteError
    from fewshot.folders import Work

    work = Work(folder=options.work, data=options.data, results=options.results)
    try:
        return _do(options, work)
    except ApatiteError as error:
        print(error)
        return error.exit_code


def _do(options: Namespace, work: "Work") -> int:
    from fewshot.folders import about_work

    if options.list or options.table:
        return show_rows(work) if options.list else write_page(work, options.page)
    missing = about_work(work)
    if missing:
        print(missing)
        return 1
    if options.quick:
        return run_quick(work)
    if options.peer_check:
        return run_named("peer-check", work) or check_peer(work)
    return run_named(options.row, work) if options.row else run_next(options.next, work)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="openkbp_fewshot.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--list", action="store_true", help="rows and their state")
    asked.add_argument("--row", help="run one row, or go on with it")
    asked.add_argument("--next", type=float, metavar="MINUTES", help="run open rows in order, as long as they fit")
    asked.add_argument("--peer-check", action="store_true", help="run the peer as it was first seen, and compare")
    asked.add_argument("--table", action="store_true", help="write the page from the rows that are done")
    asked.add_argument("--quick", action="store_true", help="one minute of the peer; keeps nothing")
    parser.add_argument("--work", type=Path, default=FOLDER / "work", help="data and runs (default %(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="the data set (default %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished rows (default %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page (default %(default)s)")
    return parser


def show_rows(work: "Work") -> int:
    """Print every row with its state and expected minutes."""
    from fewshot.rows import ROWS

    left = 0.0
    for row in ROWS.values():
        state, minutes = state_of(row, work)
        left += minutes
        print(
            f"{row.name:<32} {state:<14} {minutes:5.1f} min" + (f"   after {', '.join(row.needs)}" if row.needs else "")
        )
    print(f"about {left / 60:.1f} hours are left, on two quiet cores")
    return 0


def state_of(row: "Row", work: "Work") -> tuple[str, float]:
    """`done`, `partly (120 s)` or `open`, and the minutes that are left."""
    from fewshot.ours import clock_of, has_encoder
    from fewshot.peer import spent_in
    from fewshot.rows import ROWS

    if work.result(row.name).exists():
        return "done", 0.0
    spent = spent_in(work.run(row.name)) if row.kind == "peer" else clock_of(row, work).total()[1]
    is_lost = row.encoder and work.result(row.encoder).exists() and not has_encoder(work, row)
    again = ROWS[row.encoder].minutes if is_lost else 0.0
    minutes = again + max(row.minutes - spent / 60, 1.0)
    return f"partly ({spent:.0f} s)" if spent else "open", minutes


def run_named(name: str, work: "Work") -> int:
    """Run one row, unless it is done."""
    from apatite.core.registry import choose
    from fewshot.rows import ROWS

    row = choose(ROWS, name, "row")
    waiting = [needed for needed in row.needs if not work.result(needed).exists()]
    if waiting:
        print(f"{name} needs {', '.join(waiting)} first")
        return 1
    if work.result(name).exists():
        print(f"{name} is done: {work.result(name)}")
        return 0
    begun = time.monotonic()
    result = train_and_judge(row, work)
    from fewshot.results import write_result

    write_result(work.result(name), result)
    print(f"{name}: {describe(result)}; {(time.monotonic() - begun) / 60:.1f} minutes now")
    return 0


def train_and_judge(row: "Row", work: "Work") -> "Result":
    """The row's result, whatever kind it is."""
    from fewshot.ours import run_finetuning, run_pretraining
    from fewshot.peer_row import run_peer

    if row.kind == "peer":
        return run_peer(row, work)
    return run_pretraining(row, work) if row.kind == "pretrain" else run_finetuning(row, work)


def run_next(minutes: float, work: "Work") -> int:
    """Run open rows in order while the next one fits into what is left; a row that waits for another is passed over."""
    from fewshot.rows import ROWS

    deadline = time.monotonic() + 60 * minutes
    for row in ROWS.values():
        state, expected = state_of(row, work)
        if state == "done" or any(not work.result(needed).exists() for needed in row.needs):
            continue
        if time.monotonic() + 60 * expected > deadline:
            print(f"{row.name} ({expected:.0f} minutes) does not fit any more")
            return 0
        failed = run_named(row.name, work)
        if failed:
            return failed
    return 0


def run_quick(work: "Work") -> int:
    """A minute of the peer check, to see that everything works; nothing is kept and nothing is proved."""
    import tempfile
    from dataclasses import replace

    from fewshot.peer_row import run_peer
    from fewshot.rows import PEER_CHECK, ROWS

    with tempfile.TemporaryDirectory() as scratch:
        result = run_peer(ROWS[PEER_CHECK], replace(work, runs=Path(scratch)), QUICK_S)
    print(describe(result))
    print(json.dumps({"benchmark": "openkbp_fewshot", "quick": True, "ratios": {}, "steps": result.steps}))
    return 0


def check_peer(work: "Work") -> int:
    """Compare the peer's committed row with what was seen; 1 where the mean is outside the tolerance."""
    from fewshot.folders import ORGANS
    from fewshot.peer_seen import SEEN, TOLERANCE, mean_seen, verdict
    from fewshot.results import read_result
    from fewshot.table import organ_mean, scores_of

    found = scores_of(read_result(work.result("peer-check")))
    for place, label in enumerate(found.labels):
        print(f"{ORGANS[label]:<16} seen {SEEN[ORGANS[label]]:.2f}   here {organ_mean(found.dice[:, [place]]):.2f}")
    mean = organ_mean(found.dice)
    is_inside = abs(mean - mean_seen()) <= TOLERANCE
    print(f"{'mean':<16} seen {mean_seen():.2f}   here {mean:.2f}   {verdict(mean)}")
    print(json.dumps({"benchmark": "openkbp_fewshot", "peer_check": {"mean": round(mean, 4), "is_inside": is_inside}}))
    return 0 if is_inside else 1


def describe(result: "Result") -> str:
    """One line for the terminal."""
    from fewshot.table import organ_mean, scores_of

    judged = f", mean Dice {organ_mean(scores_of(result).dice):.3f}" if result.outcomes else ""
    return f"{result.steps} steps in {result.training_s:.0f} s{judged}"


def write_page(work: "Work", path: Path) -> int:
    """Write the page, and print the summary as the last line."""
    from apatite.core.commit import commit_text
    from fewshot.page import page, summary
    from fewshot.results import read_results

    results = read_results(work.results)
    text = page(results)
    commit_text(path, text)
    print(text)
    print(json.dumps(summary(results), allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command: choose a verb, run it, turn what happened into text and an exit code."""

import json
import signal
import sys
from typing import Any

from apatite.cli.annotate_rule import AnnotateRule
from apatite.cli.calibrate import Calibrate
from apatite.cli.checkerboard import Checkerboard
from apatite.cli.compare import Compare
from apatite.cli.console import show
from apatite.cli.convert import Convert
from apatite.cli.demo import Demo
from apatite.cli.doctor import Doctor
from apatite.cli.draw import Draw
from apatite.cli.evaluate import Evaluate
from apatite.cli.finetune import Finetune
from apatite.cli.index import Index
from apatite.cli.inspect import Inspect
from apatite.cli.list import List
from apatite.cli.measure import Measure
from apatite.cli.nnunet import Nnunet
from apatite.cli.phantom import Phantom
from apatite.cli.predict import Predict
from apatite.cli.prepare import Prepare
from apatite.cli.pretrain import Pretrain
from apatite.cli.quality import Quality
from apatite.cli.quantify import Quantify
from apatite.cli.recalibrate import Recalibrate
from apatite.cli.robustness import Robustness
from apatite.cli.sweep import Sweep
from apatite.core.errors import EXIT_INTERNAL, EXIT_USAGE, ApatiteError

VERBS: dict[str, type] = {
    "doctor": Doctor,
    "phantom": Phantom,
    "demo": Demo,
    "index": Index,
    "prepare": Prepare,
    "quality": Quality,
    "pretrain": Pretrain,
    "convert": Convert,
    "finetune": Finetune,
    "calibrate": Calibrate,
    "recalibrate": Recalibrate,
    "nnunet": Nnunet,
    "evaluate": Evaluate,
    "compare": Compare,
    "robustness": Robustness,
    "sweep": Sweep,
    "draw": Draw,
    "checkerboard": Checkerboard,
    "predict": Predict,
    "quantify": Quantify,
    "annotate-rule": AnnotateRule,
    "measure": Measure,
    "inspect": Inspect,
    "list": List,
}
"""Every verb, in the order in which a user meets them."""

DESCRIPTION = """Self-supervised learning for 3D medical segmentation that ends in a calibrated clinical number.

For research use only: not a medical device, not for diagnosis, treatment or patient management.
First steps: `apatite doctor`, then `apatite demo -o demo`."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command `apatite`."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one verb and return its exit code."""
    import tyro

    signal.signal(signal.SIGTERM, _terminate)
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"apatite {version('apatite')}")
        return 0
    try:
        verb: Any = tyro.extras.subcommand_cli_from_dict(
            VERBS, prog="apatite", description=DESCRIPTION, args=arguments, sort_subcommands=False
        )
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    return _run_verb(verb)


def _run_verb(verb: Any) -> int:
    try:
        outcome = verb.run()
    except ApatiteError as error:
        if verb.debug:
            raise
        if verb.json:
            print(json.dumps(error.to_dict()))
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if verb.debug:
            raise
        if verb.json:
            print(json.dumps({"error": type(error).__name__, "what": str(error), "code": "INTERNAL", "exit_code": 1}))
        print(f"internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("This is a bug in Apatite. Run the same command with --debug and report what it prints.", file=sys.stderr)
        return EXIT_INTERNAL
    show(outcome, as_json=verb.json)
    return outcome.exit_code


def _terminate(signal_number: int, _frame: object) -> None:
    """Leave through the ordinary clean-up, so that no temporary file stays behind."""
    sys.exit(128 + signal_number)

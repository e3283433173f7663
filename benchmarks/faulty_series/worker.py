"""One tool in a process of its own: a folder per line in, an outcome as JSON per line out; a crash is a new process.

`python -m faulty_series.worker TOOL`. What the tool prints or logs, by whatever way, is caught at the file descriptors:
it tells a loud mistake from a silent one.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faulty_series.judge import Measured, Outcome, Slices, measure

OURS = "Apatite"
BENCHMARKS = Path(__file__).resolve().parents[1]


class Worker:
    """A tool's process, started anew after it died or hung.

    Args:
        tool: Name of the tool.
        limit_s: How long one folder may take.
    """

    def __init__(self, tool: str, limit_s: float = 60.0) -> None:
        self.tool, self.limit_s = tool, limit_s
        self._process: subprocess.Popen[str] | None = None

    def read(self, folder: Path) -> Outcome:
        """What the tool makes of a folder."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(str(folder)) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._lost("died")
        ready, _, _ = select.select([process.stdout], [], [], self.limit_s)
        line = process.stdout.readline() if ready else ""
        if not line:
            return self._lost("died" if ready else "hung")
        return outcome_from(json.loads(line))

    def _lost(self, how: str) -> Outcome:
        self.close()
        return Outcome(crashed=True, note=how)

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "faulty_series.worker", self.tool]
        return subprocess.Popen(
            command,
            cwd=BENCHMARKS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
        )

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                # Closing writes what is left, which nobody reads any more.
                with suppress(BrokenPipeError):
                    if pipe:
                        pipe.close()
            self._process = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def outcome_from(values: dict[str, Any]) -> Outcome:
    """From JSON."""
    volumes = tuple(
        Measured(**volume | {"centroid_lps_mm": tuple(volume["centroid_lps_mm"])}) for volume in values["volumes"]
    )
    return Outcome(**values | {"volumes": volumes, "flags": frozenset(values["flags"])})


def read_once(reader: Callable[[Path], list[Slices]], folder: Path) -> Outcome:
    """One folder by a peer, in this process."""
    with tempfile.TemporaryFile("w+") as caught:
        kept = [os.dup(1), os.dup(2)]
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(caught.fileno(), 1)
        os.dup2(caught.fileno(), 2)
        try:
            volumes, note = tuple(measure(slices) for slices in reader(folder)), ""
        except Exception as error:  # every way in which a peer says no
            volumes, note = (), type(error).__name__
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for end in kept:
                os.close(end)
        said = caught.tell() > 0 or os.fstat(caught.fileno()).st_size > 0
    return Outcome(volumes=volumes, said=said, note=note)


def serve() -> None:
    """Answer until the input ends."""
    warnings.simplefilter("always")
    with ExitStack() as stack:
        read = _reader(sys.argv[1], stack)
        for line in sys.stdin:
            outcome = read(Path(json.loads(line)))
            print(json.dumps(asdict(outcome) | {"flags": sorted(outcome.flags)}), flush=True)


def _reader(tool: str, stack: ExitStack) -> Callable[[Path], Outcome]:
    if tool != OURS:
        from faulty_series.tools import PEERS

        return lambda folder: read_once(PEERS[tool], folder)
    from apatite.io.dicom.child import Decoder
    from faulty_series.ours import apatite

    decoder = stack.enter_context(Decoder())
    return lambda folder: apatite(folder, decoder)


if __name__ == "__main__":
    serve()

"""Runs of the command that can be killed cheaply: one process imports everything, then forks a victim per attempt.

Importing torch takes seconds and a tiny run does not. The zygote has imported, and done nothing else: no thread pool
was started, so a victim is what a fresh process would be after its imports. Run as a script, this file is the zygote;
requests and answers are lines of JSON.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_S = 60.0
"""No attempt takes that long."""


@dataclass(kw_only=True)
class Victim:
    """A run of the command, going on.

    Attributes:
        pid: Also of its process group, and of its session.
        said: What it wrote to stdout and stderr.
    """

    zygote: "Zygote"
    pid: int
    said: Path

    def wait(self) -> int:
        """The exit code; minus the signal's number for one that was killed."""
        return self.zygote.ask({"wait": self.pid})["code"]

    def says(self, text: str) -> bool:
        """Whether it has written that."""
        return self.said.exists() and text in self.said.read_text()

    def kill(self) -> int:
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()


@dataclass
class Zygote:
    """The process that forks victims.

    Attributes:
        folder: For what they say.
    """

    folder: Path
    _number: int = 0
    _process: Any = field(init=False)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *arguments: str | Path, **faults: Any) -> Victim:
        """Run the command with some faults planted: see `FAULTS`."""
        self._number += 1
        said = self.folder / f"said-{self._number}.txt"
        request = {"arguments": [str(argument) for argument in arguments], "said": str(said), "faults": faults}
        return Victim(zygote=self, pid=self.ask(request)["pid"], said=said)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_commit(stage: str, of: str, turn: int) -> None:
    """Die in the n-th commit of a file of that name, at a stage: `write`, `fsync`, `rename` or `folder`."""
    from apatite.core import commit

    real_sync, real_replace, real_write = commit._sync, Path.replace, Path.write_bytes
    state = {"turn": 0, "renamed": False}

    def is_due(path: Path) -> bool:
        return path.name.startswith(f".{of}.") and state["turn"] == turn

    def write(part: Path, content: bytes) -> int:
        state["turn"] += part.name.startswith(f".{of}.")
        if stage == "write" and is_due(part):
            real_write(part, content[: len(content) // 2])
            die()
        return real_write(part, content)

    def sync(path: Path) -> None:
        if (stage == "fsync" and is_due(path)) or (stage == "folder" and state["renamed"]):
            die()
        real_sync(path)

    def replace(part: Path, target: Path) -> Path:
        if stage == "rename" and is_due(part):
            die()
        state["renamed"] = is_due(part)
        return real_replace(part, target)

    Path.write_bytes, commit._sync, Path.replace = write, sync, replace


def die_in_package() -> None:
    """Die when the model package is whole, but not yet in its place."""
    real = Path.rename

    def rename(part: Path, target: Path) -> Path:
        if Path(target).name == "model":
            die()
        return real(part, target)

    Path.rename = rename


def limit_file_size(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))


def slow(seconds: float) -> None:
    """Take that long after every step, before anything is written; say so."""
    from apatite.engine.run import TrainingRun

    real: Callable[..., None] = TrainingRun._keep

    def keep(*arguments: Any) -> None:
        sys.stdout.write("slow\n")
        sys.stdout.flush()
        time.sleep(seconds)
        real(*arguments)

    TrainingRun._keep = keep


FAULTS = {
    "die_in_commit": die_in_commit,
    "die_in_package": die_in_package,
    "limit_file_size": limit_file_size,
    "slow": slow,
}


def _be_victim(request: dict[str, Any]) -> None:
    from apatite.cli.main import run

    os.setsid()
    said = os.open(request["said"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, to in ((null, 0), (said, 1), (said, 2)):
        os.dup2(descriptor, to)
    code = 99
    try:
        for name, values in request["faults"].items():
            FAULTS[name](**values)
        code = run(request["arguments"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited(pid: int) -> int:
    """The exit code; one that takes too long is killed."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -99


def _be_zygote() -> None:
    # Also what a run imports late.
    for module in ("torch._dynamo", "tyro", "apatite.pretrain.stage", "apatite.pretrain.recipes"):
        importlib.import_module(module)
    for module in ("apatite.segment.finetune", "apatite.segment.recipes"):
        importlib.import_module(module)

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": _waited(request["wait"])}
        else:
            pid = os.fork()
            if not pid:
                _be_victim(request)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _be_zygote()

"""What a run's rounding depends on: the same bits are promised where all of it is equal, and nowhere else."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from apatite.core.cores import num_cores
from apatite.core.errors import ConfigError
from apatite.engine.precision import Precision


def machine(precision: Precision, processes: int) -> dict[str, Any]:
    """Processor, device, torch version, threads and number of processes."""
    return {
        "cpu": _cpu_model(),
        "device": torch.cuda.get_device_name() if precision.device.startswith("cuda") else precision.device,
        "torch": torch.__version__,
        "threads": precision.threads,
        "processes": processes,
    }


def differences(began: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, where two machines differ; a machine with fewer cores than the run has threads differs, too."""
    found = [f"{name} {began.get(name)!r}, here {now[name]!r}" for name in now if began.get(name) != now[name]]
    cores = num_cores()
    if now["threads"] > cores:
        found.append(f"{now['threads']} threads, here {cores} cores")
    return found


def refuse_inexact(found: list[str], where: str) -> None:
    """Refuse to go on with other rounding than the run began with.

    Raises:
        ConfigError: there are differences (`INEXACT`).
    """
    if found:
        raise ConfigError(
            f"began elsewhere ({'; '.join(found)}), so its numbers would not be those of an uninterrupted run",
            where=where,
            fix="resume it there, or accept other rounding with --inexact-resume",
            code="INEXACT",
        )


def _cpu_model() -> str:
    """The processor's name; kernels are chosen by it."""
    listing = Path("/proc/cpuinfo")  # Linux
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

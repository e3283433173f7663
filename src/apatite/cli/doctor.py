"""The verb `doctor`: what this machine offers, and what is missing."""

from dataclasses import dataclass

from apatite.cli.console import Outcome
from apatite.cli.flags import CommonFlags

OPTIONAL_PARTS = {"monai": "oracle in the tests", "statsmodels": "oracle in the tests"}
"""Packages that are not needed, and what each would add."""


@dataclass(frozen=True, kw_only=True)
class Doctor(CommonFlags):
    """Show the device, precision, threads and optional parts that a run on this machine would use.

    Example: apatite doctor --json
    """

    def run(self) -> Outcome:
        """Look, without changing anything."""
        import os
        import platform
        from importlib.metadata import PackageNotFoundError, version

        import torch

        from apatite.engine.precision import choose_device, supports_bf16

        device = choose_device("auto")
        parts = {}
        for name in OPTIONAL_PARTS:
            try:
                parts[name] = version(name)
            except PackageNotFoundError:
                parts[name] = None
        values = {
            "apatite": version("apatite"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "platform": platform.platform(),
            "device": str(device),
            "bf16": supports_bf16(device),
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "optional": parts,
        }
        lines = [f"{key:<10} {value}" for key, value in values.items() if key != "optional"]
        lines += [f"{name:<10} {found or 'not installed'} ({OPTIONAL_PARTS[name]})" for name, found in parts.items()]
        return Outcome(values=values, lines=lines)

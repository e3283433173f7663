"""Peak memory from a DICOM folder to the carotids' region, of a fresh process without torch.

The two heads of `head_path.py`. The child process that reads the files takes about 50 MiB beside it.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Benchmark
from head_path import DATA, simulated


def main(arguments: list[str] | None = None) -> None:
    bench = Benchmark.start(__doc__, __file__, packages=("pydicom", "numba"), arguments=arguments)
    template = DATA / "templates" / "scct.nii.gz"
    with TemporaryDirectory() as name:
        slices = 24 if bench.quick else 200
        heads = {f"simulated, {slices} slices": simulated(Path(name) / "head", slices, 128 if bench.quick else 512)[0]}
        real = DATA / "head_ct_ge" / "dicom"
        if real.is_dir() and not bench.quick:
            heads["real, 28 slices"] = real
        for head, series in heads.items():
            bench.row(head=head, peak_mib=peak_mib(series, template if template.exists() else None))
    bench.finish()


def peak_mib(series: Path, template: Path | None) -> float:
    """Of a process that goes the way once."""
    once = Path(__file__).resolve().with_name("head_memory_once.py")
    command = [sys.executable, str(once), str(series), *([str(template)] if template else [])]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["peak_mib"])


if __name__ == "__main__":
    main()

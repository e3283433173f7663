"""The package's path from a DICOM folder to the carotids' region, once: for its peak memory, without torch or a peer.

    python benchmarks/head_memory_once.py FOLDER [TEMPLATE]

prints `{"peak_mib": …}` of this process. The child process that reads the files takes about 50 MiB beside it.
"""

import json
import sys
from pathlib import Path

from apatite.ct.boxes import BOXES
from apatite.ct.cover import training_grid
from apatite.ct.localise import localise
from apatite.ct.region import REGIONS, cut_region
from apatite.ct.template import Template, read_template
from apatite.io.dicom.reading import read_folder


def once(series: Path, template_path: Path | None) -> None:
    if template_path is None:
        from apatite.phantom.head import procedural_template

        template = Template(name="procedural", volume=procedural_template())
    else:
        template = read_template(template_path)
    scan = read_folder(series).scan
    found = localise(scan, template, threads=2)
    cut_region(scan, training_grid(found.pose, BOXES["ica"], REGIONS["paper"]))
    print(json.dumps({"peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Of this program alone: what `getrusage` says on Linux includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


if __name__ == "__main__":
    once(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

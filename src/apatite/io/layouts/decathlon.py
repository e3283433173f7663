"""A decathlon data list: JSON with `training`, `validation`, `test`, or a folder with such a dataset.json."""

from pathlib import Path

from apatite.core.errors import DataError
from apatite.io.layouts.entries import Entry, label_names_of, manifest_of, patient_of, read_json
from apatite.io.manifest import Manifest
from apatite.io.nifti import stem


def from_decathlon(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a decathlon data list: JSON with `training`, `validation`, `test`, or a folder with such a dataset.json."""
    file = path / "dataset.json" if path.is_dir() else path
    about = read_json(file)
    entries = []
    for key, split in (("training", ""), ("validation", "development"), ("test", "test")):
        for item in about.get(key, []):
            item = item if isinstance(item, dict) else {"image": item}
            if not isinstance(item.get("image"), str):
                raise DataError(
                    f"an entry of {key!r} names no single image", where=str(file), fix="give one image per entry"
                )
            image = file.parent / item["image"]
            label = file.parent / item["label"] if item.get("label") else None
            fold = (("fold", int(item["fold"])),) if isinstance(item.get("fold"), int) else ()
            patient = str(item.get("patient_id") or patient_of(stem(image), patient_pattern))
            entries.append(
                Entry(name=stem(image), image=image, label=label, patient=patient, split=split, columns=fold)
            )
    return manifest_of(file.parent, entries, label_names_of(about.get("labels", {}), file))

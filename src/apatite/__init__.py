"""Apatite: self-supervised learning for 3D medical segmentation that ends in a calibrated clinical number.

For research use only. The names below are the public face; each is loaded when it is first used, so that
`import apatite` costs nothing.

    encoder = apatite.pretrain_encoder(config, Path("prepared"), Path("runs/mae"))
    model = apatite.finetune_segmenter(config, Path("prepared"), Path("runs/tuned"), init_from=encoder.package)
    prediction = apatite.open_predictor(model.package).predict(apatite.read_scan(Path("scan.nii.gz")))
"""

from importlib import import_module
from typing import Any, Final

_PUBLIC: Final[dict[str, str]] = {
    "FinetuneConfig": "apatite.segment.config:FinetuneConfig",
    "Prepared": "apatite.io.store:Prepared",
    "PretrainConfig": "apatite.pretrain.config:PretrainConfig",
    "calibrate_model": "apatite.study.calibrate:calibrate",
    "evaluate_models": "apatite.study.run:evaluate_models",
    "finetune_segmenter": "apatite.segment.finetune:finetune",
    "make_cohort": "apatite.phantom.folder:write_cohort",
    "open_predictor": "apatite.segment.predict:open_predictor",
    "prepare_cases": "apatite.data.prepare:prepare",
    "pretrain_encoder": "apatite.pretrain.stage:pretrain",
    "read_manifest": "apatite.io.manifest:read_manifest",
    "read_scan": "apatite.io.nifti:read_scan",
}
"""Public name to where it lives. The functions have longer names here because `apatite.pretrain` is a folder."""

__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll] - one list, not two


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'apatite' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted([*globals(), *_PUBLIC])

"""The files of Swin weights that others published: how they are wrapped, what is in them, and what the network was fed.

A layout says what a file cannot: in which window its images were scaled and to what, which of its tensors are wanted
and why the rest is not. What a name means is said by `nn.swin.monai_names`, and by nothing else: a name it does not
know is listed, never guessed.

Source: [code] The-Veeraraghavan-Lab/SMIT, commit 5d81399 (`train_self_supervised.py`, `fine_tuning_swin_3D.py`,
`models/Trans.py`); The-Veeraraghavan-Lab/SMIT-HeartSubSeg, commit 968fc20 (`main_smit.py`, `models/smit.py`);
Project-MONAI/research-contributions (`SwinUNETR/Pretrain/main.py`, `models/ssl_head.py`, `utils/data_utils.py`); MONAI
1.6.1, `SwinUNETR.load_from`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from apatite.core.errors import ConfigError
from apatite.nn.intensity import ABDOMEN_HU, Window
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.presets import SWINS

Spacing = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One kind of file.

    Attributes:
        note: Whose weights, in which file.
        model: Key of `nn.swin.presets.SWINS` whose shape the weights have.
        places: Keys under which the file may hold them, in order; the empty one stands for the file itself.
        wraps: What may stand before a name, in this order.
        drops: Beginnings of names that are not wanted, each with the reason.
        window_hu: What was clipped and scaled to 0 ... 1 before the network saw it; `None` where nothing says so.
        spacing_mm: Along i, j, k, of the images it was trained on; `None` where nothing says so.
        citation: What to cite.
        doubt: What could not be checked, in one sentence.
    """

    note: str
    model: str
    places: tuple[str, ...]
    wraps: tuple[str, ...]
    drops: Mapping[str, str] = field(default_factory=dict)
    window_hu: Window | None
    spacing_mm: Spacing | None
    citation: str
    doubt: str

    def shape(self, window_hu: Window | None) -> SwinConfig:
        """The encoder's, in the window that is given or else the layout's own.

        Raises:
            ConfigError: neither is known.
        """
        window = window_hu or self.window_hu
        if window is None:
            raise ConfigError(
                "nothing published says in which window of HU these weights were trained",
                where="--window-hu",
                fix="ask who trained them, and give the two ends",
            )
        return replace(SWINS[self.model].shape, windows_hu=(window,))

    def spacing(self, spacing_mm: Spacing | None) -> Spacing:
        """Of the images, which is given or else the layout's own.

        Raises:
            ConfigError: neither is known.
        """
        spacing = spacing_mm or self.spacing_mm
        if spacing is None:
            raise ConfigError(
                "nothing published says on which spacing these weights were trained",
                where="--spacing-mm",
                fix="ask who trained them, and give it along i, j, k",
            )
        return spacing


_HIDDEN_TOKEN = {"mask_token": "the hidden token of pre-training; a segmenter hides nothing"}
_PRETEXT_HEADS = "a head of pre-training"
_SMIT = Layout(
    note="SMIT 2022: pre_train_weight.pt, or pre_train_model.pt of its script",
    model="swin-smit",
    places=("state_dict", ""),
    wraps=("module.", "backbone.", "transformer."),
    drops={**_HIDDEN_TOKEN, "head.": _PRETEXT_HEADS, "decoder1.": _PRETEXT_HEADS, "norm.": _PRETEXT_HEADS},
    window_hu=ABDOMEN_HU,
    spacing_mm=(2.0, 2.0, 2.0),
    citation="Jiang et al. 2022 (SMIT, arXiv 2205.10342)",
    doubt="names as the released script saves them; the published file was not at hand. Its images were not turned to"
    " one orientation, and its attention put windows back in another order than it took them out",
)
_SSL_HEADS = ("rotation_head.", "contrastive_head.", "conv.")
_DECODER = "the convolutional decoder; a segmenter's own is trained anew"
_DECODERS = (*(f"encoder{i}." for i in (1, 2, 3, 4, 10)), *(f"decoder{i}." for i in range(1, 6)), "out.")

LAYOUTS: Final[dict[str, Layout]] = {
    "smit": _SMIT,
    "smit-heart": replace(
        _SMIT,
        note="the encoder of SMIT-HeartSubSeg: model_smit.pth",
        model="swin-heart",
        places=("student",),
        window_hu=None,
        spacing_mm=None,
        citation="SMIT-HeartSubSeg (arXiv 2505.10855)",
        doubt="names as the released script looks for them; the published file was not at hand. Its attention put"
        " windows back in another order than it took them out",
    ),
    "monai-swin-ssl": Layout(
        note="MONAI's self-supervised Swin UNETR encoder: model_swinvit.pt",
        model="swin-unetr-1.4-ijk",
        places=("state_dict", ""),
        wraps=("module.", "swin_vit."),
        drops=dict.fromkeys(_SSL_HEADS, _PRETEXT_HEADS),
        window_hu=(-1000.0, 1000.0),
        spacing_mm=(1.5, 1.5, 2.0),
        citation="Tang et al. 2022 (arXiv 2111.14791)",
        doubt="names and shapes as SwinUNETR.load_from reads them; the window is the released script's, and so is the"
        " spacing, which its data pipeline does not apply",
    ),
    "monai-swin-unetr": Layout(
        note="the encoder of a SwinUNETR that was trained with MONAI 1.5 or later",
        model="swin-unetr-ijk",
        places=("state_dict", "model", ""),
        wraps=("module.", "swinViT."),
        drops=dict.fromkeys(_DECODERS, _DECODER),
        window_hu=None,
        spacing_mm=None,
        citation="Hatamizadeh et al. 2022 (arXiv 2201.01266)",
        doubt="which MONAI trained them does not stand in the file; before 1.5 its merging was another",
    ),
    "monai-swin-unetr-1.4": Layout(
        note="the encoder of a SwinUNETR that was trained with MONAI 1.4 or earlier",
        model="swin-unetr-1.4-ijk",
        places=("state_dict", "model", ""),
        wraps=("module.", "swinViT."),
        drops=dict.fromkeys(_DECODERS, _DECODER),
        window_hu=None,
        spacing_mm=None,
        citation="Hatamizadeh et al. 2022 (arXiv 2201.01266)",
        doubt="which MONAI trained them does not stand in the file; from 1.5 on its merging is another",
    ),
}
"""Every layout by the name that `--layout` takes."""

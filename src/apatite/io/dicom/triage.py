"""What a series is by its headers: a head CT that may be scored, or one that is set aside, and the code that says why.

Nothing here looks at pixels. Words are matched as whole tokens, without regard to case and accents, in languages of the
Latin alphabet; what is not said stays unknown, and what is unknown is not set aside.

Source: the exclusions of Jin et al. 2024 (DEMI@MICCAI, LNCS pp. 73-83) and of docs/explanation/dicom.md.
Differs: bone kernels stay in, ranked below soft ones; a derived image is one that is named so, for the bare ImageType
`DERIVED` also stands for a copy that was only compressed.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np

from apatite.io.dicom.header import Header

MAX_TILT_DEG: Final = 45.0
"""Slices whose normal is further from the head's axis are not axial."""

CT_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
"""CT image, enhanced CT image, legacy converted enhanced CT image."""

_SECONDARY_CLASSES: Final = (
    "1.2.840.10008.1.3.10",  # media directory
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.9",  # waveforms
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
    "1.2.840.10008.5.1.4.1.1.66",  # raw data, registrations, segmentations
    "1.2.840.10008.5.1.4.1.1.88",  # reports, also of dose
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.481",  # radiotherapy objects
)
_SECONDARY_MODALITIES: Final = ("SR", "PR", "KO", "SEG", "REG", "OT", "DOC", "AU", "RTSTRUCT", "RTDOSE", "RTPLAN")

TYPE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "LOCALIZER": ("localizer", "localiser", "scout", "topogram", "surview", "scanogram"),
    "SECONDARY": ("screen save", "screensave", "dose info", "patient protocol"),
    "DERIVED": (
        *("mip", "minip", "min ip", "max ip", "projection image", "maximum", "minimum", "average", "avg", "mean"),
        *("median", "subtraction", "perfusion", "rcbf", "rcbv", "mtt", "ttp", "tmax", "vrt", "vr", "ssd"),
        *("vnc", "virtual unenhanced", "iodine", "monoenergetic", "mono energetic", "monoe", "eff atomic num", "cpr"),
        *("bone removal", "material basis", "material modified", "rho z", "curved", "color", "colour"),
    ),
    "REFORMAT": ("reformatted", "reformat", "mpr", "mpr thick", "resampled"),
    "CONTRAST": ("mon", "premon"),
}
"""Words in ImageType. `mon` is Siemens' name for the slices that watch a bolus arrive."""

TEXT_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "LOCALIZER": (
        *("localizer", "localiser", "lokalizer", "localizador", "localizzatore", "localisateur", "scout", "scouts"),
        *("topo", "topogram", "topogramm", "topogramma", "topogramme", "surview", "scano", "scanogram", "scanoscope"),
        "pilot",
    ),
    "SECONDARY": ("dose report", "dose info", "patient protocol", "screen save", "screen capture", "snapshot"),
    "DERIVED": (
        *("mip", "minip", "maxip", "vrt", "vr", "volume rendering", "cbf", "cbv", "mtt", "ttp", "tmax", "rcbf"),
        *("vnc", "iodine", "iod", "monoenergetic", "mono energetic", "monoe", "mono e", "kev", "subtraction"),
        *("subtracted", "dsa", "bone removal", "boneremoval", "bone removed", "rho z", "z eff", "overlay", "fusion"),
    ),
    "REFORMAT": ("mpr", "mprs", "reformat", "reformats", "reformatted", "reformation", "rekonstruktion mpr"),
}
"""Words in SeriesDescription."""

CONTRAST_WORDS: Final = (
    *("contrast", "contraste", "contrasto", "kontrast", "kontrastmittel", "contrastmiddel", "kontrastmiddel", "km"),
    *("cta", "ctv", "ctp", "angio", "angiogram", "angiography", "angiographie", "angiografia", "angiografie"),
    *(
        "arterial",
        "arteriell",
        "arterielle",
        "arteriel",
        "venous",
        "venos",
        "venose",
        "veineux",
        "venoso",
        "postcontrast",
    ),
    *("c plus", "plus c", "bolus", "injected", "injecte", "injectee", "perfusion", "monitoring", "premonitoring"),
    *("smartprep", "surestart", "cect", "postcontrast"),
)
"""Words that name a contrast agent, unless one of `_WITHOUT` stands shortly before them."""
_WITHOUT: Final = (
    *("no", "non", "not", "without", "wo", "ohne", "sans", "sin", "sem", "senza", "zonder", "uten", "utan", "uden"),
    *("pre", "avant", "vor", "minus"),
)
_WITH: Final = ("with", "w", "mit", "avec", "con", "com", "met", "med", "post", "after", "nach", "apres", "plus", "and")
_NONE: Final = ("none", "na", "n", "nil", "null", "0", "false", "keine", "kein", "aucun", "ninguno", "nessuno", "geen")

HEAD_WORDS: Final = (
    *("head", "brain", "skull", "neuro", "cranium", "cranial", "cerebral", "cerebrum", "intracranial", "stroke"),
    *("kopf", "schadel", "hirn", "crane", "tete", "cerveau", "encephale", "craneo", "cabeza", "cerebro", "cranio"),
    *("testa", "encefalo", "cervello", "hoofd", "hersenen", "schedel", "hode", "caput", "cabeca", "hjerne"),
    *(
        "headneck",
        "sinus",
        "sinuses",
        "orbit",
        "orbits",
        "sella",
        "pituitary",
        "petrous",
        "face",
        "facial",
        "maxillofacial",
    ),
)
"""Words for the head or a part of it that may hold the carotid siphon."""
OTHER_WORDS: Final = (
    *("chest", "thorax", "thoracic", "lung", "lungs", "heart", "cardiac", "coronary", "abdomen", "abdominal", "liver"),
    *("pelvis", "pelvic", "spine", "cspine", "tspine", "lspine", "lumbar", "sacrum", "shoulder", "humerus", "elbow"),
    *("wrist", "hand", "hip", "femur", "knee", "tibia", "ankle", "foot", "extremity", "leg", "arm", "kidney", "colon"),
    *("lunge", "wirbelsaule", "becken", "bauch", "torax", "addome", "bacino", "bassin", "rachis", "poumon", "columna"),
)
"""Words for other parts of the body. The neck is not among them: a scan of it may reach the skull base."""

_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_REACH: Final = 3
"""Tokens before a word in which `without` still refers to it."""


def set_aside_code(images: Sequence[Header]) -> str:
    """Why a series is not a head CT to score; empty where nothing speaks against it.

    Args:
        images: The headers of one series; at least one.
    """
    return next((code for code, applies in _RULES if applies(images)), "")


def tokens(text: str) -> list[str]:
    """Words and numbers of a text, lower case, without accents; `+` is `plus`, `w/o` is `wo`, `H30s` is `h 30 s`."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("+", " plus "))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return _TOKEN.findall(letters.replace("w/o", " wo "))


def has_words(text: str, words: Sequence[str]) -> bool:
    """Whether a text holds one of the words (or phrases) as whole tokens."""
    return _holds(tokens(text), words)


def _holds(found: Sequence[str], words: Sequence[str]) -> bool:
    line = f" {' '.join(found)} "
    return any(f" {word} " in line for word in words)


def _is_secondary(images: Sequence[Header]) -> bool:
    return any(
        image.modality in _SECONDARY_MODALITIES
        or any(image.sop_class_uid == uid or image.sop_class_uid.startswith(f"{uid}.") for uid in _SECONDARY_CLASSES)
        for image in images
    )


def _is_no_ct(images: Sequence[Header]) -> bool:
    return any(
        image.modality not in ("", "CT") or (image.sop_class_uid not in CT_CLASSES and image.sop_class_uid != "")
        for image in images
    )


def _named(code: str, images: Sequence[Header]) -> bool:
    types = {" | ".join(image.image_type) for image in images}
    texts = {image.series_description for image in images}
    return any(has_words(text, TYPE_WORDS.get(code, ())) for text in types) or any(
        has_words(text, TEXT_WORDS.get(code, ())) for text in texts
    )


def _is_unnamed_product(images: Sequence[Header]) -> bool:
    """Derived and secondary, and not even called axial."""
    return any(
        image.image_type[:2] == ("DERIVED", "SECONDARY") and image.image_type[2:3] not in ((), ("AXIAL",))
        for image in images
    )


def _is_not_axial(images: Sequence[Header]) -> bool:
    for image in images:
        if image.orientation_lps is None:
            continue
        normal = np.cross(image.orientation_lps[:3], image.orientation_lps[3:])
        length = float(np.linalg.norm(normal))
        if length > 0 and math.isfinite(length):
            return bool(abs(normal[2]) / length < math.cos(math.radians(MAX_TILT_DEG)))
    return False


def _is_enhanced(images: Sequence[Header]) -> bool:
    """Named by the contrast tag, or by the words of the series; those of a whole protocol cover plain series too."""
    agents = {image.contrast for image in images}
    texts = {image.series_description or image.protocol_name for image in images}
    return _named("CONTRAST", images) or any(map(_names_agent, agents)) or any(map(_says_contrast, texts))


def _names_agent(contrast: str) -> bool:
    found = tokens(contrast)
    if not found or found[0] in _NONE:
        return False
    return found[0] not in _WITHOUT or found[:2] == ["non", "ionic"]


def _says_contrast(text: str) -> bool:
    found = tokens(text)
    return any(
        (word in CONTRAST_WORDS or " ".join(found[place : place + 2]) in CONTRAST_WORDS)
        and not _is_negated(found[max(place - _REACH, 0) : place])
        for place, word in enumerate(found)
    )


def _is_negated(before: Sequence[str]) -> bool:
    """Whether the last of these words that says with or without says without."""
    said = [word in _WITHOUT for word in before if word in _WITHOUT or word in _WITH]
    return bool(said) and said[-1]


def _is_no_head(images: Sequence[Header]) -> bool:
    """What the series says of itself counts; where it says nothing, what its protocol and its study say."""
    first = images[0]
    for text in (
        f"{first.body_part} | {first.series_description}",
        f"{first.protocol_name} | {first.study_description}",
    ):
        found = tokens(text)
        is_head, is_other = _holds(found, HEAD_WORDS), _holds(found, OTHER_WORDS)
        if is_head or is_other:
            return not is_head
    return False


_RULES: Final = (
    ("SECONDARY", _is_secondary),
    ("NOT_CT", _is_no_ct),
    ("LOCALIZER", lambda images: _named("LOCALIZER", images)),
    ("SECONDARY", lambda images: _named("SECONDARY", images)),
    ("DERIVED", lambda images: _named("DERIVED", images)),
    ("REFORMAT", lambda images: _named("REFORMAT", images)),
    ("DERIVED", _is_unnamed_product),
    ("CONTRAST", _is_enhanced),
    ("NONAXIAL", _is_not_axial),
    ("NOT_HEAD", _is_no_head),
    ("BURNED_IN", lambda images: any(image.burned_in for image in images)),
)
"""Code and rule; the first that applies is the code of the series."""

"""A reconstruction kernel is soft or bone: a table per vendor, and nothing where the table does not know it.

A bone kernel sharpens edges and overshoots at them, which inflates the volume above 130 HU; so the class decides which
series of a study is scored.

Source: Siemens' letters and numbers as in the operating instructions of SOMATOM Sensation ("B30s or B40s" standard,
"B50s, B60s, B70s, B80s" for higher sharpness). All other entries are from memory of published protocols and are not
checked against the vendors' documents: GE, Philips, Canon and Toshiba, and Siemens' families after 2010.
`apatite.ct.kernel_check` looks at the image instead.
"""

import re
from typing import Final, Literal

KernelClass = Literal["soft", "bone", ""]

_SIEMENS: Final = re.compile(r"[BDHIJQSU][A-Z]?(\d\d)[A-Z]{0,2}")
_SIEMENS_BONE_FROM: Final = 50
"""First number of the sharp kernels: 10 is smoothest, 40 standard, 70 and more temporal bone."""

_CANON: Final = re.compile(r"FC(\d\d)")
_CANON_RANGES: Final[tuple[tuple[range, KernelClass], ...]] = (
    (range(1, 9), "soft"),  # body, with beam hardening correction
    (range(10, 20), "soft"),  # body
    (range(20, 30), "soft"),  # head, with beam hardening correction; FC21 is the usual one
    (range(30, 40), "bone"),
    (range(50, 60), "bone"),  # lung
    (range(60, 70), "soft"),  # head
    (range(80, 90), "bone"),  # inner ear
)

_GE: Final[dict[str, KernelClass]] = {
    "SOFT": "soft",
    "STANDARD": "soft",
    "STD": "soft",
    "DETAIL": "soft",
    "CHST": "soft",
    "BRAIN": "soft",
    "BONE": "bone",
    "BONEPLUS": "bone",
    "EDGE": "bone",
    "LUNG": "bone",
    "ULTRA": "bone",
}
_GE_VARIANT: Final = re.compile(r"^(?:U?HD|ND)|(?:ND|HD)$")

_PHILIPS_SOFT: Final = ("A", "B", "C", "UA", "UB", "UC", "EB", "EC", "SA", "SB", "XA", "XB", "BRAIN", "SOFT")
_PHILIPS_BONE: Final = ("D", "E", "L", "YC", "YD", "YE", "DETAIL", "BONE", "LUNG")


def kernel_class(vendor: str, kernel: str) -> KernelClass:
    """Whether a kernel is `soft` or `bone`; empty where vendor or kernel is not in the table.

    Args:
        vendor: Manufacturer, as in the header.
        kernel: ConvolutionKernel, as in the header; of several values the first counts.
    """
    name = re.split(r"[\\,;'\"\[\]]+", kernel.strip().strip("['\""))[0].strip().upper()
    maker = vendor.casefold()
    if maker.startswith("siemens"):
        return _siemens(name)
    if maker.startswith(("toshiba", "canon")):
        return _canon(name)
    if maker == "ge" or maker.startswith(("ge ", "ge_", "general electric")):
        return _ge(name)
    return _philips(name) if maker.startswith("philips") else ""


def _siemens(name: str) -> KernelClass:
    found = _SIEMENS.fullmatch(name)
    if found is None:
        return ""
    return "bone" if int(found[1]) >= _SIEMENS_BONE_FROM else "soft"


def _canon(name: str) -> KernelClass:
    found = _CANON.fullmatch(name)
    for numbers, kind in _CANON_RANGES:
        if found is not None and int(found[1]) in numbers:
            return kind
    return ""


def _philips(name: str) -> KernelClass:
    if name in _PHILIPS_SOFT:
        return "soft"
    return "bone" if name in _PHILIPS_BONE else ""


def _ge(name: str) -> KernelClass:
    """`BONE+`, `BONE PLUS` and `BONEPLUS` are one kernel, and so are its `HD` and `ND` variants."""
    core = name.replace("PLUS", "+").replace(" ", "").replace("-", "").replace("_", "")
    plain = _GE_VARIANT.sub("", core.rstrip("+"))
    return _GE.get(plain, "")

"""Kernels of four vendors, and silence about all others."""

import pytest

from apatite.io.dicom.kernels import kernel_class

SOFT = [
    *(("GE MEDICAL SYSTEMS", name) for name in ("SOFT", "STANDARD", "STD+", "DETAIL", "CHST", "ND STANDARD", "HD STD")),
    *(("SIEMENS", name) for name in ("H10s", "H31s", "H40f", "J40s", "Hr40f", "Qr40", "Br36d\\3", "B31f", "Hc40s")),
    *(("Siemens Healthineers", name) for name in ("['Br40d', '3']", "Hr38f")),
    *(("Philips Medical Systems", name) for name in ("A", "B", "C", "UB", "UC")),
    *(("TOSHIBA", name) for name in ("FC01", "FC08", "FC13", "FC21", "FC26", "FC64")),
    ("CANON_MEC", "FC21"),
]
BONE = [
    *(("GE MEDICAL SYSTEMS", name) for name in ("BONE", "BONEPLUS", "BONE+", "EDGE", "LUNG", "ULTRA", "HD BONE")),
    *(("SIEMENS", name) for name in ("H60s", "H70h", "J70h", "Ur77u", "Hr59f", "B80f", "U90u")),
    *(("Philips", name) for name in ("D", "E", "L", "YE")),
    *(("TOSHIBA", name) for name in ("FC30", "FC35", "FC51", "FC81")),
]
UNKNOWN = [
    ("", "BONE"),
    ("GE MEDICAL SYSTEMS", ""),
    ("GE MEDICAL SYSTEMS", "MYSTERY"),
    ("GENERIC", "BONE"),
    ("SIEMENS", "T80f"),
    ("SIEMENS", "sharp"),
    ("Philips", "STANDARD"),
    ("TOSHIBA", "FC90"),
    ("TOSHIBA", "FC9"),
    ("NeuroLogica", "H30s"),
]


@pytest.mark.parametrize(
    ("pairs", "expected"), [(SOFT, "soft"), (BONE, "bone"), (UNKNOWN, "")], ids=["soft", "bone", "unknown"]
)
def test_classes(pairs, expected):
    assert {pair: kernel_class(*pair) for pair in pairs} == dict.fromkeys(pairs, expected)

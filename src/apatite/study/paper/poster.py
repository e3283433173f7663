"""Figures of a poster about SMIT and three other pretext tasks: they only ever stand in a column of their own.

They were copied from a poster and checked against nothing: which scans, organs, splits and labels they are means over
is not known here, nor whether they are those of the paper (Jiang et al. 2022, arXiv 2205.10342), whose abstract has
0.878 for SMIT on the CT of a public challenge and 0.875 on MR. “SSIM” of the poster is SimMIM.
"""

from typing import Final

TAG_CT: Final = "Dice on CT (poster, unverified)"
TAG_MR: Final = "Dice on MR (poster, unverified)"
"""What the columns of these figures are called."""

AVERAGES: Final[dict[str, tuple[float, float]]] = {
    "dino": (0.826, 0.835),
    "ibot": (0.833, 0.848),
    "simmim": (0.830, 0.842),
    "smit": (0.848, 0.875),
}
"""Method → averages on CT and on MR."""

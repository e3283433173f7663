"""What no head's pose can be: limits on scale, anisotropy, volume and rotation that a registration has to keep.

A map outside them is wrong however well it scores: a skull base stretched over a whole head, a face on the crown.
The limits are wide, since MNI space is larger than most heads (scales of 0.84 to 1.02 on one real head).
"""

import numpy as np

from apatite.ct.pose import HeadPose

SCALE = (0.75, 1.15)
"""Of each singular value of the map from MNI to the patient."""
LARGEST_RATIO = 1.35
"""Of the largest singular value to the smallest."""
VOLUME = (0.55, 1.2)
"""Of the determinant."""
LARGEST_TURN_DEG = 45.0


def broken_gates(pose: HeadPose) -> tuple[str, ...]:
    """Names of the limits that a pose does not keep: `scale`, `ratio`, `volume`, `turn`."""
    scales = pose.scales
    volume = float(np.prod(scales))
    keeps = {
        "scale": SCALE[0] <= scales[-1] and scales[0] <= SCALE[1],
        "ratio": scales[0] <= LARGEST_RATIO * scales[-1],
        "volume": VOLUME[0] <= volume <= VOLUME[1],
        "turn": pose.turn_deg <= LARGEST_TURN_DEG,
    }
    return tuple(name for name, kept in keeps.items() if not kept)

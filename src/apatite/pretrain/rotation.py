"""The term that asks by how many quarter turns a crop was turned in the axial plane.

Source: Gidaris et al. 2018 (arXiv 1803.07728), in 3D as one of the three tasks of Tang et al. 2022 (arXiv 2111.14791).
Differs: see `nn.turn_head`; the plane is that of height and width, the axial one of every prepared volume.
"""

from apatite.core.types import Scalar
from apatite.losses.rotation import rotation_loss
from apatite.nn.intensity import Window
from apatite.pretrain.term import Made, Term, TermSettings
from apatite.pretrain.view import Seen


class Rotation(Term):
    """Say how far each view was turned: cross-entropy of four answers."""

    makes = frozenset[Made]({"turn"})

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu, settings

    def loss(self, seen: Seen) -> Scalar:
        """Over all views alike."""
        assert seen.view.turns is not None, "a method with this term turns its views"
        return rotation_loss(seen.made_turns(), seen.view.turns)

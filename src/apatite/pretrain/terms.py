"""The terms a pre-training method is made of: one class per named loss over what one branch made of a view.

A method is a table of weighted terms (see `methods`). A term says what it needs of its branch; what no term asks for is
never built and costs nothing. Others are in `distil`, `contrast` and `rotation`; those over two branches are
in `between`.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from torch import Tensor

from apatite.core.types import Edges, Image, Rows, Scalar
from apatite.losses.critical import CriticalVoxelLoss
from apatite.losses.euler import euler_loss
from apatite.losses.hidden_voxels import hidden_l1
from apatite.losses.pooling import refuse_pool
from apatite.losses.position import position_loss
from apatite.losses.reconstruction import mean_squared_error, normalise_patches
from apatite.losses.topology import TopologyLoss
from apatite.nn.intensity import Window
from apatite.pretrain.contrast import Contrast
from apatite.pretrain.distil import CrossViews, HiddenCells, KoLeo, SameSimilarities, TwinCells
from apatite.pretrain.rotation import Rotation
from apatite.pretrain.term import BuildTerm, Made, Term, TermSettings
from apatite.pretrain.view import Seen
from apatite.topology.backends import require_backend


class Reconstruction(Term):
    """Predict the hidden patches: mean squared error against a target.

    Args:
        windows_hu: One channel per window.
        settings: Of all terms.
    """

    makes = frozenset[Made]({"reconstruction"})

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        self.channels = len(windows_hu)
        # The network's unit runs from -1 to 1 over a window.
        self.target_floor = tuple(2 * settings.target_floor_hu / (high - low) for low, high in windows_hu)

    @abstractmethod
    def target_of(self, patches: Rows) -> Rows:
        """What these patches are, in the unit of the reconstruction."""

    def loss(self, seen: Seen) -> Scalar:
        """Mean squared error on hidden patches."""
        return mean_squared_error(seen.made_patches(), self.target(seen))

    def target(self, seen: Seen) -> Rows:
        """What the reconstruction should be."""
        return self.target_of(seen.view.hidden_patches())


class ReconstructHidden(Reconstruction):
    """Each hidden patch normalised by its own mean and variance.

    Source: He et al. 2022 (arXiv 2111.06377), sections 3 and 4.1.
    """

    unit = "normalised"

    def target_of(self, patches: Rows) -> Rows:
        """Normalised patch by patch and channel by channel."""
        return normalise_patches(patches, self.channels, self.target_floor)


class ReconstructVoxels(Reconstruction):
    """Hidden patches as they are, in the network's unit.

    Source: Gu et al. 2024 (arXiv 2406.10519) joins a reconstruction with a loss on persistence diagrams; these need one
    scale of intensities over the whole crop, which patches normalised one by one do not have.
    """

    unit = "network"

    def target_of(self, patches: Rows) -> Rows:
        """The patches themselves."""
        return patches


class HiddenVoxels(ReconstructVoxels):
    """MIP: mean absolute error on hidden voxels, of intensities from 0 to 1 over a window.

    Source: Jiang et al. 2022 (arXiv 2205.10342) and its released code; SimMIM, Xie et al. 2022 (arXiv 2111.09886).
    """

    def loss(self, seen: Seen) -> Scalar:
        """One mean over the hidden voxels of all views."""
        assert seen.image is not None, "whoever is asked for a reconstruction and has one of all of the view gives it"
        return hidden_l1(_from_0_to_1(seen.image), _from_0_to_1(seen.view.image()), seen.view.hidden_voxels())


class Topology(Term):
    """Half the squared 2-Wasserstein distances between persistence diagrams of input and composite.

    The composite is the input with its hidden patches replaced by the reconstruction: what the network was shown is not
    judged. Diagrams are computed in threads while the networks compute on.

    Source: after Gu et al. 2024 (arXiv 2406.10519); see `losses.topology`.
    """

    makes = frozenset[Made]({"reconstruction"})
    unit = "network"

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu
        self.topology = TopologyLoss(settings.topology)

    def refuse(self, crop: Edges) -> None:
        """Cubes must fill the crop, and the backend be there."""
        refuse_pool(crop, self.topology.config.pool)
        require_backend(self.topology.config.diagram.backend)

    def loss(self, seen: Seen) -> Scalar:
        """The distance, at once."""
        return self.start(seen)()

    def start(self, seen: Seen) -> Callable[[], Scalar]:
        """Let diagrams and matchings be computed meanwhile."""
        return self.topology.start(*composite_and_input(seen))


class EulerCurve(Term):
    """Difference of the Euler-characteristic curves of input and composite; a surrogate that a GPU can compute.

    Source: see `losses.euler`.
    """

    makes = frozenset[Made]({"reconstruction"})
    unit = "network"

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu
        self.euler = settings.euler

    def refuse(self, crop: Edges) -> None:
        """Cubes must fill the crop."""
        refuse_pool(crop, self.euler.pool)

    def loss(self, seen: Seen) -> Scalar:
        """The difference of the curves."""
        return euler_loss(*composite_and_input(seen), self.euler)


class CriticalVoxels(Term):
    """Squared error at the voxels where features of the input are born and die, by their persistence.

    Source: see `losses.critical`.
    """

    makes = frozenset[Made]({"reconstruction"})
    unit = "network"

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu
        self.critical = CriticalVoxelLoss(settings.critical)

    def refuse(self, crop: Edges) -> None:
        """Cubes must fill the crop, and the backend be there."""
        refuse_pool(crop, self.critical.config.pool)
        require_backend(self.critical.config.diagram.backend)

    def loss(self, seen: Seen) -> Scalar:
        """The error, at once."""
        return self.start(seen)()

    def start(self, seen: Seen) -> Callable[[], Scalar]:
        """Let the input's diagrams be computed meanwhile."""
        return self.critical.start(*composite_and_input(seen))


class Position(Term):
    """Say where in its volume the crop lies: centre and eight corners.

    Source: Gu et al. 2024 (arXiv 2406.10519); see `losses.position`.
    """

    makes = frozenset[Made]({"points"})

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu, settings

    def loss(self, seen: Seen) -> Scalar:
        """Mean squared error over 27 fractions of the volume."""
        assert seen.view.places is not None, "the stage refuses data that do not say where crops lie"
        return position_loss(seen.made_points(), seen.view.places.points)


def composite_and_input(seen: Seen) -> tuple[Image, Image]:
    """The input with its hidden patches replaced by the reconstruction, and the input; from 0 to 1 over a window."""
    return _from_0_to_1(seen.view.image_with(seen.made_patches())), _from_0_to_1(seen.view.image())


def _from_0_to_1(image: Tensor) -> Tensor:
    return (image.float() + 1) / 2


TERMS: Final[dict[str, BuildTerm]] = {
    "reconstruct_hidden": ReconstructHidden,
    "reconstruct_voxels": ReconstructVoxels,
    "topology": Topology,
    "euler": EulerCurve,
    "critical_voxels": CriticalVoxels,
    "position": Position,
    "mip": HiddenVoxels,
    "mpd": HiddenCells,
    "itd": CrossViews,
    "twin_tokens": TwinCells,
    "koleo": KoLeo,
    "gram": SameSimilarities,
    "contrast": Contrast,
    "rotation": Rotation,
}

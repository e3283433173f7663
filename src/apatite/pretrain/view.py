"""One view of a batch, and what one branch made of it: what terms are functions of."""

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from apatite.core.types import Edges, Image, Rows, TokenChoice
from apatite.data.places import CropPlaces
from apatite.nn.patches import place_tokens, take_tokens, unpatchify

Points = Float[Tensor, "batch 9 3"]
"""The centre and the eight corners of each crop, as fractions of its volume along depth, height, width."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What every branch is given: the same crops with the same patches hidden.

    Attributes:
        patches: All patches in network units, `batch tokens (patch voxels x channels)`.
        visible, hidden: Which tokens may be seen and which may not.
        tokens: Tokens along depth, height, width.
        patch: Edges of a patch in voxels.
        places: Where the crops lie in their volumes; `None` where the batch does not say.
    """

    patches: Rows
    visible: TokenChoice
    hidden: TokenChoice
    tokens: Edges
    patch: Edges
    places: CropPlaces | None = None

    @property
    def channels(self) -> int:
        """Channels of the image: one per window."""
        return self.patches.shape[2] // (self.patch[0] * self.patch[1] * self.patch[2])

    def hidden_patches(self) -> Rows:
        """The true hidden patches: `batch hidden (patch voxels x channels)`."""
        return take_tokens(self.patches, self.hidden)

    def image(self) -> Image:
        """The whole crop, `batch channels depth height width`, in network units."""
        return unpatchify(self.patches, self.tokens, self.patch)

    def image_with(self, hidden: Rows) -> Image:
        """The crop with its hidden patches replaced by these rows."""
        return unpatchify(place_tokens(self.patches, hidden, self.hidden), self.tokens, self.patch)


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What one branch made of a view.

    Attributes:
        view: What it was given.
        features: One row per place that it encoded: the visible tokens, or the elements of its coarsest map.
        reconstruction: Its hidden patches, `batch hidden (patch voxels x channels)`; `None` where no term asks.
        points: Where it believes the crops to lie; `None` where no term asks.
    """

    view: View
    features: Rows
    reconstruction: Rows | None = None
    points: Points | None = None

    def made_patches(self) -> Rows:
        """The reconstruction, in fp32 whatever it was computed in.

        A term that asks for it says so in `makes`, so that it is always there.
        """
        assert self.reconstruction is not None
        return self.reconstruction.float()

    def made_points(self) -> Points:
        """The places, likewise."""
        assert self.points is not None
        return self.points.float()


def rows_of(maps: Float[Tensor, "batch _ _ _ _"]) -> Rows:
    """One row per element of a map, in the order of tokens."""
    return rearrange(maps, "b c z y x -> b (z y x) c")

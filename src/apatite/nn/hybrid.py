"""A ViT beside UNETR++: its states as maps on the grids of UNETR++'s stages, added to the stages or in their place.

    state after block, of 12     3     6     9     12
    stage of UNETR++             1     2     3     4

A state is normalised, projected to the stage's width (a linear layer for each token, which is a 1×1×1 convolution), and
resampled to the stage's grid: linearly between the centres of tokens along the axes where the stage is finer, as the
mean over what an element covers along those where it is coarser. Both work for any patch and any stem, also where one
grid is no multiple of the other. The last state has passed the encoder's own norm, the others have one each.

Three networks are made of that:

    UNETRPPAlone        UNETR++ by itself; nothing is asked of an encoder but the windowed image
    UNETRPPWithStates   stages of UNETR++ plus maps of the states; the projections begin at zero, so that before the
                        first step it says what UNETR++ alone would
    UNETRPPOnStates     maps of the states in place of the stages: UNETR++ without its encoder

Source: after Gu et al. 2024 (arXiv 2406.10519), who complement a pre-trained ViT encoder with a pre-trained hybrid
network; states at quarter depths as Hatamizadeh et al. 2022 (arXiv 2103.10504).
Differs: which states they take, where and how they join, is not known to us; all of the above is our choice.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.types import Edges, Image
from apatite.nn.decoders.decoder import Maps
from apatite.nn.decoders.prior import start_rare
from apatite.nn.decoders.unetr import quarter_depths
from apatite.nn.intensity import Window, Windows
from apatite.nn.unetrpp.network import NUM_STAGES, UNETRPP, UNETRPPConfig, UNETRPPDecoder, heads_of
from apatite.nn.vit import Encoded, ViTConfig


class NoEncoder(nn.Module):
    """In the place of a ViT where a network has none: it hands the windowed image on, without a token or a weight."""

    def __init__(self, windows_hu: Sequence[Window]) -> None:
        super().__init__()
        self.windows = Windows(windows_hu)

    def encode(self, image_hu: Tensor, taps: Sequence[int] = (), *, keeps_image: bool = True) -> Encoded:
        """The image of `batch 1 depth height width` Hounsfield units; arguments as `ViT.encode`."""
        assert not taps, "there are no blocks"
        image = self.windows(image_hu)
        return Encoded(tokens=image.new_zeros(len(image), 0, 0), image=image if keeps_image else None)


class UNETRPPAlone(nn.Module):
    """UNETR++ by itself, in the place of a decoder: the whole of it lies behind the windowed image.

    Args:
        unetrpp: Its shape.
        encoder: Shape of the ViT beside it; `None` where there is none.
        labels: Logits per voxel.
        deep: Whether the two next coarser maps have logits of their own, to learn from.

    Attributes:
        taps: Blocks of the ViT, counted from 1, whose tokens are needed.
        sees_image: That the windowed image is needed.
    """

    taps: tuple[int, ...] = ()
    sees_image: bool = True

    def __init__(self, unetrpp: UNETRPPConfig, encoder: ViTConfig | None, labels: int, *, deep: bool) -> None:
        super().__init__()
        del encoder
        self.unetrpp = self._network(unetrpp, labels, deep=deep)
        for head in self.unetrpp.heads:
            assert isinstance(head, nn.Conv3d)
            start_rare(head)

    def _network(self, unetrpp: UNETRPPConfig, labels: int, *, deep: bool) -> "UNETRPP | DecoderHalf":
        """As much of UNETR++ as is needed."""
        return unetrpp.build(labels, deep=deep)

    def stages(self, encoded: Encoded) -> tuple[Maps, ...]:
        """What UNETR++'s decoder is given: one map per stage, the finest first."""
        assert isinstance(self.unetrpp, UNETRPP)
        return self.unetrpp.stages(_image_of(encoded))

    def outputs(self, encoded: Encoded) -> tuple[Maps, ...]:
        """Logits at full resolution; under deep supervision also those on the first and the second stage's grid."""
        return self.unetrpp.outputs(_image_of(encoded), self.stages(encoded))

    def forward(self, encoded: Encoded) -> Maps:
        """Logits `batch labels depth height width`."""
        return self.outputs(encoded)[0]


class UNETRPPWithStates(UNETRPPAlone):
    """UNETR++, to whose stages maps of a ViT's states are added; arguments as `UNETRPPAlone`."""

    def __init__(self, unetrpp: UNETRPPConfig, encoder: ViTConfig | None, labels: int, *, deep: bool) -> None:
        super().__init__(unetrpp, encoder, labels, deep=deep)
        assert encoder is not None
        self.taps = quarter_depths(encoder.depth)
        self.states = StateMaps(encoder, unetrpp, starts_at_zero=True)

    def stages(self, encoded: Encoded) -> tuple[Maps, ...]:
        """Both, added."""
        return tuple(own + told for own, told in zip(super().stages(encoded), self.states(encoded), strict=True))


class UNETRPPOnStates(UNETRPPAlone):
    """UNETR++'s decoder on maps of a ViT's states; arguments as `UNETRPPAlone`."""

    def __init__(self, unetrpp: UNETRPPConfig, encoder: ViTConfig | None, labels: int, *, deep: bool) -> None:
        super().__init__(unetrpp, encoder, labels, deep=deep)
        assert encoder is not None
        self.taps = quarter_depths(encoder.depth)
        self.states = StateMaps(encoder, unetrpp, starts_at_zero=False)

    def _network(self, unetrpp: UNETRPPConfig, labels: int, *, deep: bool) -> "UNETRPP | DecoderHalf":
        return DecoderHalf(unetrpp, labels, deep=deep)

    def stages(self, encoded: Encoded) -> tuple[Maps, ...]:
        """Of the states alone."""
        return self.states(encoded)


class DecoderHalf(nn.Module):
    """UNETR++'s decoder and heads; its weights have the names that they have in the whole.

    Args:
        unetrpp: Shape of the whole.
        labels: Logits per voxel.
        deep: As `UNETRPPConfig.build`.
    """

    def __init__(self, unetrpp: UNETRPPConfig, labels: int, *, deep: bool) -> None:
        super().__init__()
        self.decoder = UNETRPPDecoder(unetrpp)
        self.heads = heads_of(unetrpp, labels, deep=deep)

    def outputs(self, image: Image, stages: Sequence[Maps]) -> tuple[Maps, ...]:
        """As `UNETRPP.outputs`."""
        return tuple(head(features) for head, features in zip(self.heads, self.decoder(image, stages), strict=False))


class StateMaps(nn.Module):
    """From the states of a ViT to one map per stage of UNETR++, the finest first.

    Args:
        encoder: Shape of the ViT.
        unetrpp: Shape of UNETR++.
        starts_at_zero: Whether the maps are nothing until something was learned.
    """

    def __init__(self, encoder: ViTConfig, unetrpp: UNETRPPConfig, *, starts_at_zero: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(encoder.dim) for _ in range(NUM_STAGES - 1))
        self.projections = nn.ModuleList(nn.Linear(encoder.dim, width) for width in unetrpp.widths)
        self.resamplings = nn.ModuleList(Resampling(encoder.tokens, grid) for grid in unetrpp.stages)
        self.tokens = encoder.tokens
        if starts_at_zero:
            for parameter in self.projections.parameters():
                nn.init.zeros_(parameter)

    def forward(self, encoded: Encoded) -> tuple[Maps, ...]:
        """The states must be those of `quarter_depths`, the deepest first."""
        states = [norm(state) for norm, state in zip(self.norms, encoded.states[::-1], strict=True)]
        maps = []
        for project, resample, state in zip(self.projections, self.resamplings, [*states, encoded.tokens], strict=True):
            maps.append(resample(project(state).transpose(1, 2).unflatten(2, self.tokens)))
        return tuple(maps)


class Resampling(nn.Module):
    """From one grid over a crop to another.

    Sums along one axis at a time, whose gradient is the same sums backwards: with the same bits wherever it runs twice,
    which torch's own interpolation does not promise on a GPU.

    Args:
        have, want: Elements along depth, height, width.
    """

    def __init__(self, have: Edges, want: Edges) -> None:
        super().__init__()
        for axis, edges in enumerate(zip(have, want, strict=True)):
            self.register_buffer(f"along_{axis}", axis_weights(*edges), persistent=False)

    def forward(self, features: Maps) -> Maps:
        """`batch channels depth height width`; the edges become the wanted ones."""
        along = [self.get_buffer(f"along_{axis}") for axis in range(3)]
        features = torch.einsum("b c z y x, w x -> b c z y w", features, along[2])
        features = torch.einsum("b c z y w, h y -> b c z h w", features, along[1])
        return torch.einsum("b c z h w, d z -> b c d h w", features, along[0])


def axis_weights(have: int, want: int) -> Float[Tensor, "want have"]:
    """How much each of the elements that an axis has goes into each of those it is to have; every row sums to 1."""
    if want >= have:
        places = ((torch.arange(want, dtype=torch.float64) + 0.5) * have / want - 0.5).clamp(0, have - 1)
        distances = (places[:, None] - torch.arange(have, dtype=torch.float64)).abs()
        return (1 - distances).clamp(min=0).float()
    ends = torch.arange(want + 1, dtype=torch.float64) * have / want
    first = torch.arange(have, dtype=torch.float64)
    covered = torch.minimum(ends[1:, None], first + 1) - torch.maximum(ends[:-1, None], first)
    return (covered.clamp(min=0) * want / have).float()


def _image_of(encoded: Encoded) -> Image:
    assert encoded.image is not None, "sees_image asks for it"
    return encoded.image

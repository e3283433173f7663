"""The strong peer: the package's networks built of timm's blocks, whose attention is torch's fused one.

Same widths, same inputs, same outputs, and for the segmenter the same weights, copied from ours, so that a script can
check that both sides compute the same before it times them.
"""

import torch
from torch import Tensor, nn

from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.patches import place_tokens, take_tokens, unpatchify
from apatite.nn.transformer import Transformer
from apatite.nn.vit import ViTConfig
from apatite.pretrain.task import PretrainTask
from apatite.segment.model import Segmenter

OPERATORS = ("nms", "qnms")
OPERATOR_TYPE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def block_class() -> type[nn.Module]:
    """timm's transformer block.

    timm imports torchvision, which refuses to load beside a torch that was built for another accelerator, for want of
    two operators of object detection that nothing here uses. They are then declared, and the import is tried again.

    Raises:
        ImportError: timm or torchvision is not installed, or they do not load.
    """
    try:
        from timm.models.vision_transformer import Block
    except RuntimeError:
        try:
            _declare_operators()
            from timm.models.vision_transformer import Block
        except RuntimeError as error:
            raise ImportError("its torchvision does not load beside this torch") from error
    return Block


def _declare_operators() -> None:
    for name in OPERATORS:
        torch.library.define(f"torchvision::{name}", OPERATOR_TYPE)


class Stack(nn.Module):
    """Pre-norm blocks and a final norm, as `apatite.nn.transformer.Transformer`."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        block = block_class()
        self.blocks = nn.ModuleList(
            block(dim, heads, qkv_bias=True, norm_layer=nn.LayerNorm)  # type: ignore[call-arg]
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


NAMES = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
"""Our names of a block's parts, and timm's."""


def stack_like(transformer: Transformer, dim: int, depth: int, heads: int) -> Stack:
    """timm's blocks with the weights of ours."""
    stack = Stack(dim, depth, heads)
    state = {}
    for name, value in transformer.state_dict().items():  # heads leave the module unpadded
        for ours, theirs in NAMES.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        state[name] = value
    stack.load_state_dict(state, strict=True)
    return stack


class TimmSegmenter(nn.Module):
    """A fine-tuned network with the MAE decoder: everything but the blocks is taken from ours."""

    def __init__(self, ours: Segmenter) -> None:
        super().__init__()
        config, decoder = ours.config.encoder, ours.config.decoder.mae
        self.ours, self.config = ours, config
        self.encoder = stack_like(ours.encoder.transformer, config.dim, config.depth, config.heads)
        tail = ours.decoder.decoder
        self.decoder = stack_like(tail.transformer, decoder.dim, decoder.depth, decoder.heads)

    def forward(self, image_hu: Tensor) -> Tensor:
        encoder, tail = self.ours.encoder, self.ours.decoder.decoder
        tokens = self.encoder(encoder.embed_visible(encoder.patches_of(image_hu), None))
        rows = tail.head(self.decoder(tail.narrow(tokens) + tail.positions))
        return unpatchify(rows, self.config.tokens, self.config.patch)


class TimmMae(nn.Module):
    """A masked autoencoder of timm's blocks: visible patches in, hidden patches out."""

    def __init__(self, encoder: ViTConfig, decoder: TokenDecoderConfig) -> None:
        super().__init__()
        values = encoder.patch_voxels * len(encoder.windows_hu)
        self.embed = nn.Linear(values, encoder.dim)
        self.positions = nn.Parameter(torch.zeros(1, encoder.num_tokens, encoder.dim), requires_grad=False)
        self.encoder = Stack(encoder.dim, encoder.depth, encoder.heads)
        self.narrow = nn.Linear(encoder.dim, decoder.dim)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, decoder.dim))
        self.decoder_positions = nn.Parameter(torch.zeros(1, encoder.num_tokens, decoder.dim), requires_grad=False)
        self.decoder = Stack(decoder.dim, decoder.depth, decoder.heads)
        self.head = nn.Linear(decoder.dim, values)

    def forward(self, patches: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error on hidden patches."""
        positions = self.positions.expand(len(patches), -1, -1)
        tokens = self.encoder(self.embed(take_tokens(patches, visible)) + take_tokens(positions, visible))
        narrow = self.narrow(tokens)
        filler = self.hidden_token.to(narrow.dtype).expand(len(patches), patches.shape[1], -1)
        decoded = self.decoder(place_tokens(filler, narrow, visible) + self.decoder_positions)
        return (self.head(take_tokens(decoded, hidden)) - take_tokens(patches, hidden)).pow(2).mean()


def same_size(task: PretrainTask, peer: TimmMae) -> bool:
    """Whether both sides learn as many numbers, stored padding aside."""
    ours = sum(value.numel() for name, value in task.state_dict().items() if not name.endswith(("positions",)))
    theirs = sum(parameter.numel() for parameter in peer.parameters() if parameter.requires_grad)
    return ours == theirs

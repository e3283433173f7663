"""A roofline of masked autoencoders over plain 3D transformers: what a step must at least cost.

Counts are per sample. With D, L, H for the encoder's width, depth and heads, d, l, h for the decoder's, p for the edge
of a patch, c for channels, n for visible tokens, m for hidden ones and t = n + m:

    linear of a block of width D over n tokens     24 n D²        (queries, keys, values 6; output 2; perceptron 16)
    scores and mixing                              4 n² D
    embedding visible, narrowing, predicting hidden    2 n p³c D + 2 n D d + 2 m d p³c
    exponentials                                   L H n² + l h t²

Training costs three forwards; where scores are computed again in the backward pass, attention costs 3.5 and two
exponentials per score. Checks: ViTiac-S, M and L come to the 10, 40 and 157 million parameters of Jin et al. 2025
(arXiv 2507.01744), and hiding 90 % saves ViT-L on video the 7.7 of Feichtenhofer et al. 2022 (arXiv 2205.09113).
"""

from dataclasses import dataclass

FUSED_ELEMENTS = 24
"""Elements that a block moves per token and channel, forward, when everything that can be fused is."""
SAVED_ELEMENTS = 34
"""Elements per token and channel that a block keeps for its backward pass, when nothing is recomputed but scores."""
GPU_EXPS_PER_CLOCK = 16
"""Of one multiprocessor of the Hopper generation."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Encoder (`dim`, `depth`, `heads`), decoder, and voxels times channels of a patch."""

    dim: int
    depth: int
    heads: int
    decoder_dim: int
    decoder_depth: int = 8
    decoder_heads: int = 12
    patch_values: int = 64


def vitiac(size: str, patch_values: int = 64) -> Shape:
    """The published sizes S, M, L with their half-width decoder of 8 blocks."""
    dim = {"S": 240, "M": 480, "L": 960}[size]
    return Shape(dim=dim, depth=12, heads=12, decoder_dim=dim // 2, patch_values=patch_values)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Forward counts of one sample.

    Attributes:
        visible, decoded: Tokens in the encoder and in the decoder.
        linear: Floating-point operations of all linear layers.
        encoder_attention, decoder_attention: Of scores and mixing.
        encoder_scores, decoder_scores: Exponentials.
        activations: Tokens times width, summed over the blocks.
    """

    visible: int
    decoded: int
    linear: float
    encoder_attention: float
    decoder_attention: float
    encoder_scores: int
    decoder_scores: int
    activations: float

    @property
    def attention(self) -> float:
        """Floating-point operations of all scores and mixing."""
        return self.encoder_attention + self.decoder_attention

    @property
    def scores(self) -> int:
        """All exponentials."""
        return self.encoder_scores + self.decoder_scores

    @property
    def flops(self) -> float:
        """Everything, forward."""
        return self.linear + self.attention


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """bf16 FLOP/s, bytes/s, exponentials/s. The numbers of an H200 are measured, published, and from its clock."""

    flops: float = 790e12
    stream: float = 4.8e12
    exps: float = GPU_EXPS_PER_CLOCK * 132 * 1.83e9


def block_parameters(dim: int) -> int:
    """Weights, biases and norms of one block."""
    return 12 * dim**2 + 13 * dim


def parameters(shape: Shape) -> int:
    """Encoder and decoder: patch embedding, blocks, norms, narrowing, hidden token, head."""
    ends = (shape.patch_values + 1) * shape.dim + (shape.dim + 1) * shape.decoder_dim
    ends += (shape.decoder_dim + 1) * shape.patch_values + 2 * shape.dim + 3 * shape.decoder_dim
    encoder, decoder = (
        shape.depth * block_parameters(shape.dim),
        shape.decoder_depth * block_parameters(shape.decoder_dim),
    )
    return encoder + decoder + ends


def bytes_updated(shape: Shape) -> int:
    """Traffic of one AdamW step in fp32: weight, gradient and two moments read, three of them written."""
    return 7 * 4 * parameters(shape)


def counts(shape: Shape, tokens: int, hidden_ratio: float = 0.9, visible: int | None = None) -> Counts:
    """Forward counts of a masked autoencoder whose decoder attends over all tokens.

    Args:
        shape: Of the network.
        tokens: In the region.
        hidden_ratio: Share that the encoder does not see; 0 is a fine-tuned model.
        visible: Visible tokens, where a method rounds in its own way.
    """
    n = round((1 - hidden_ratio) * tokens) if visible is None else visible
    predicted = tokens - n or tokens  # a fine-tuned model predicts all
    ends = 2 * n * shape.patch_values * shape.dim + 2 * n * shape.dim * shape.decoder_dim
    ends += 2 * predicted * shape.decoder_dim * shape.patch_values
    blocks = shape.depth * 24 * n * shape.dim**2 + shape.decoder_depth * 24 * tokens * shape.decoder_dim**2
    return Counts(
        visible=n,
        decoded=tokens,
        linear=blocks + ends,
        encoder_attention=shape.depth * 4 * n * n * shape.dim,
        decoder_attention=shape.decoder_depth * 4 * tokens * tokens * shape.decoder_dim,
        encoder_scores=shape.depth * shape.heads * n * n,
        decoder_scores=shape.decoder_depth * shape.decoder_heads * tokens * tokens,
        activations=shape.depth * n * shape.dim + shape.decoder_depth * tokens * shape.decoder_dim,
    )


def flops_train(count: Counts, *, recompute: bool = False) -> float:
    """Operations of one training step on one sample; `recompute` counts scores made again in the backward pass."""
    return 3 * count.linear + (3.5 if recompute else 3) * count.attention


def bytes_moved(count: Counts, element_bytes: int, *, train: bool = True) -> float:
    """Traffic of activations of perfectly fused blocks."""
    return (3 if train else 1) * FUSED_ELEMENTS * element_bytes * count.activations


def bytes_saved(count: Counts, element_bytes: int, score_copies: int = 0) -> float:
    """Activations kept for the backward pass; a method that keeps its scores keeps them once or more."""
    return element_bytes * (SAVED_ELEMENTS * count.activations + score_copies * count.scores)


def floor_cpu(count: Counts, gemm: float, stream: float, exps: float, *, train: bool = True) -> float:
    """Seconds per sample that a CPU needs at least, given what it does at best.

    Products and exponentials share the same vector units, so their times add; traffic hides behind the products.

    Args:
        count: Of the network, in fp32.
        gemm: FLOP/s of a large product.
        stream: Bytes/s.
        exps: Exponentials/s.
        train: Forward and backward, or forward only.
    """
    linear = (3 if train else 1) * count.linear / gemm
    traffic = bytes_moved(count, 4, train=train) / stream
    attention = (3.5 if train else 1) * count.attention / gemm + (2 if train else 1) * count.scores / exps
    return max(linear, traffic) + attention


def floor_gpu(count: Counts, gpu: Gpu | None = None) -> float:
    """Seconds per sample and training step that a GPU needs at least, in bf16.

    Tensor cores and the exponential unit run side by side within attention, as products and traffic do within linear
    layers; the two kinds of kernel follow each other.
    """
    gpu = gpu or Gpu()
    attention = max(3.5 * count.attention / gpu.flops, 2 * count.scores / gpu.exps)
    return attention + max(3 * count.linear / gpu.flops, bytes_moved(count, 2) / gpu.stream)

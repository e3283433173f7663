import torch

from apatite.nn.attention import AttentionKernel
from apatite.nn.transformer import Block, Transformer

KERNEL = AttentionKernel()


def test_block_is_two_residual_branches():
    torch.manual_seed(0)
    block = Block(12, 2, KERNEL)
    x = torch.randn(2, 5, 12)
    middle = x + block.attention(block.attention_norm(x))
    assert torch.equal(block(x), middle + block.mlp(block.mlp_norm(middle)))


def test_drop_path_grows_with_depth():
    transformer = Transformer(12, 4, 2, KERNEL, drop_path=0.3)
    assert [round(block.drop_path.rate, 3) for block in transformer.blocks] == [0.0, 0.1, 0.2, 0.3]


def test_states_are_those_after_the_blocks_that_were_asked_for():
    torch.manual_seed(0)
    transformer = Transformer(12, 3, 2, KERNEL)
    x = torch.randn(1, 4, 12)
    first = transformer.blocks[0](x)
    third = transformer.blocks[2](transformer.blocks[1](first))
    tokens, states = transformer.tapped(x, (3, 1, 1))
    assert [torch.equal(state, by_hand) for state, by_hand in zip(states, (third, first, first), strict=True)] == [
        True
    ] * 3
    assert torch.equal(tokens, transformer.norm(third))
    assert torch.equal(tokens, transformer(x))
    assert transformer.tapped(x, ())[1] == ()

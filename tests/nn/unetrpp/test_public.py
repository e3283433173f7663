"""The four networks are those of the public code: its outputs for weights and images that a formula makes.

Source: `public_outputs.safetensors` holds outputs of Amshaker/unetr_plus_plus, commit dcba1c6, run in evaluation mode
on a CPU in float64 with torch 2.13 and kept in float32: small widths, two blocks per stage, these crops, `number` for
every weight and image. `<network>` is the code as it stands; `<network>.mended` has the order of tokens put right in
its one line. Each row is one of the three outputs, every so manieth value of it.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from apatite.core.types import Edges
from apatite.nn.unetrpp.network import UNETRPP, UNETRPPConfig
from apatite.nn.unetrpp.presets import PRESETS

REFERENCE = load_file(Path(__file__).with_name("public_outputs.safetensors"))
CROPS: dict[str, Edges] = {"synapse": (16, 64, 32), "acdc": (24, 32, 64), "lung": (8, 32, 64), "brats": (32, 64, 32)}
OUTPUTS, KEPT = 3, 24


def config_of(case: str) -> UNETRPPConfig:
    """The network of a case, narrow, on its small crop."""
    name, _, mended = case.partition(".")
    channels = 4 if name == "brats" else 1
    return replace(
        PRESETS[name],
        crop=CROPS[name],
        windows_hu=((-1.0, 1.0),) * channels,
        widths=(8, 16, 32, 64),
        num_blocks=2,
        base_width=4,
        scrambled=not mended,
    )


def number(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weight of a name: numbers of a stream of its own, brought to the size of its kind."""
    stream = np.random.Generator(np.random.PCG64(int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)))
    spread_1 = (stream.random(shape) - 0.5) * 12**0.5
    kind = name.rpartition(".")[2]
    if kind == "running_var":
        values = 1 + 0.5 * spread_1
    elif kind.startswith("temperature"):
        values = 10 + 3 * spread_1
    elif kind == "gamma" or (kind == "weight" and len(shape) == 1):
        values = 0.7 + 0.2 * spread_1
    elif kind == "weight":
        values = spread_1 / np.prod(shape[1:]) ** 0.5
    else:
        values = 0.3 * spread_1
    return torch.from_numpy(values)


def made_by_formula(config: UNETRPPConfig) -> tuple[UNETRPP, Tensor]:
    """The network and a batch of two images, in double precision, so that no machine's rounding counts."""
    network = config.build(OUTPUTS, deep=True).eval().double()
    counters = {name: value for name, value in network.state_dict().items() if not value.is_floating_point()}
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if name not in counters}
    network.load_state_dict({name: number(name, shape) for name, shape in shapes.items()} | counters)
    return network, number("image", (2, len(config.windows_hu), *config.crop))


def kept(outputs: tuple[Tensor, ...]) -> Tensor:
    """A few values of each output, spread over all of it."""
    return torch.stack([values.flatten()[:: values.numel() // KEPT][:KEPT] for values in outputs])


def test_every_network_has_a_reference_as_it_stands_and_mended():
    assert set(REFERENCE) == {f"{name}{mended}" for name in CROPS for mended in ("", ".mended")}


@pytest.mark.parametrize("case", sorted(REFERENCE))
def test_it_gives_the_outputs_of_the_public_code(case):
    network, image = made_by_formula(config_of(case))
    with torch.no_grad():
        found = kept(network.outputs(image, network.stages(image)))
    torch.testing.assert_close(found.float(), REFERENCE[case], rtol=0, atol=1e-5)


def test_the_order_of_tokens_matters_to_these_outputs():
    for name in CROPS:
        assert (REFERENCE[name] - REFERENCE[f"{name}.mended"]).abs().max() > 0.01

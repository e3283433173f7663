"""More than a thousand damaged model files: each is refused by name, or loads the very weights that were written.

Damage as it happens (bits, blocks, lengths) meets the digests. The other half is sealed again after the change, so that
the gates behind the digests are what must hold.
"""

import hashlib
import json
import re
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apatite.core.config import dump
from apatite.core.errors import ApatiteError
from apatite.core.rng import generator
from apatite.engine.checkpoint import load_state, restore, save_state, state_of
from apatite.engine.weights import load_weights, weights_of
from apatite.io.model_package import read_package, read_summary, write_package
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig
from apatite.segment.model import SegmenterConfig
from apatite.segment.predict import open_predictor

Files = dict[str, bytes]
WEIGHTS, CARD, SEAL, LAST = "weights.safetensors", "model.json", "MANIFEST.sha256", "last"
ENCODER = ViTConfig(crop=(8, 16, 24), patch=(4, 8, 8), dim=12, depth=1, heads=2)
SEGMENTER = SegmenterConfig(encoder=ENCODER, decoder=DecoderConfig(mae=TokenDecoderConfig(dim=12, depth=1, heads=2)))
PEAK_KIB = 256 * 1024


class Hangs(BaseException):
    """A reader waits for ever; no error that a reader might catch."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Files that were written well, and how to load such files: what they say, and all tensors by name."""

    files: Files
    load: Callable[[Path], tuple[Any, dict[str, torch.Tensor]]]


def network() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(4)
    module = ENCODER.build()
    return module, torch.optim.AdamW(module.parameters(), lr=1e-3)


def load_encoder(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    module, package = ENCODER.build(), read_package(folder)
    load_weights(module, package)
    return package.card, module.state_dict()


def load_segmenter(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    predictor = open_predictor(folder, "cpu")
    return predictor.card, predictor.network.state_dict()


def load_checkpoint(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    module, optimizer = network()
    tensors, values = load_state(folder / LAST)
    restore(module, optimizer, tensors, values["optimizer"])
    moments, _ = state_of(module, optimizer)
    return values, moments


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> dict[str, Target]:
    from apatite.io.model_card import InputSpec, ModelCard, Provenance

    root = tmp_path_factory.mktemp("whole")
    torch.manual_seed(3)
    card = ModelCard(
        kind="encoder",
        architecture=dump(ENCODER),
        recipe="mae",
        input=InputSpec(shape=ENCODER.crop, spacing_mm=(0.5, 0.6, 2.0), windows_hu=ENCODER.windows_hu),
        label_names={},
        domains={"pretraining": ["phantom"], "training": [], "calibration": [], "reference": []},
        provenance=Provenance(apatite_version="0", seed=5),
    )
    write_package(root / "encoder", card, weights_of(ENCODER.build()))
    card = replace(card, kind="segmenter", architecture=dump(SEGMENTER), label_names={1: "calcium"})
    write_package(root / "segmenter", card, weights_of(SEGMENTER.build()))
    module, optimizer = network()
    for step in range(2):
        optimizer.zero_grad()
        image = torch.randn(1, 1, *ENCODER.crop, generator=torch.Generator().manual_seed(step)) * 200
        module(module.patches_of(image)).square().mean().backward()
        optimizer.step()
    tensors, settings = state_of(module, optimizer)
    save_state(root / "checkpoint" / LAST, tensors, {"step": 2, "optimizer": settings})
    loads = {"encoder": load_encoder, "segmenter": load_segmenter, "checkpoint": load_checkpoint}
    return {
        name: Target(files={path.name: path.read_bytes() for path in (root / name).iterdir()}, load=load)
        for name, load in loads.items()
    }


@pytest.fixture(autouse=True)
def hang_is_a_failure():
    """A reader that waits for ever ends the test, not the suite."""

    def stop(number: int, frame: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def sealed(files: Files) -> Files:
    """What a hostile editor does last."""
    if LAST in files:
        content = files[LAST]
        length = int.from_bytes(content[:8], "little")
        head, data = content[: 8 + length], content[8 + length :]
        blank = re.sub(rb'("sha256":")[0-9a-f]{64}', rb"\g<1>" + b"0" * 64, head) + data
        digest = hashlib.sha256(blank).hexdigest().encode()
        return {LAST: blank.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest, 1)}
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in (CARD, WEIGHTS)]
    return {**files, SEAL: "".join(lines).encode()}


def judge(target: Target, files: Files, folder: Path, is_card_free: bool = False) -> str:
    """`refused` or `identical`; anything else fails. `is_card_free`: what the card says may be something else."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    started_s = time.process_time()
    try:
        if LAST not in target.files:
            read_summary(folder)
        says, tensors = target.load(folder)
    except ApatiteError as error:
        assert (error.exit_code, bool(error.fix)) == (3, True), error
        assert str(error).isprintable()
        return "refused"
    finally:
        assert time.process_time() - started_s < 2
    for name, content in target.files.items():
        (folder / name).write_bytes(content)
    wanted_says, wanted = target.load(folder)
    assert is_card_free or says == wanted_says
    assert set(tensors) == set(wanted)
    for name, tensor in tensors.items():
        assert tensor.dtype == wanted[name].dtype
        assert tensor.numpy().tobytes() == wanted[name].numpy().tobytes(), name
    return "identical"


def judge_all(target: Target, mutants: list[Files], root: Path, is_card_free: bool = False) -> Counter:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = Counter(judge(target, files, root / str(i), is_card_free) for i, files in enumerate(mutants))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < PEAK_KIB
    return found


def flip(draw: np.random.Generator, content: bytes) -> bytes:
    made = bytearray(content)
    for place in draw.integers(0, len(made), draw.integers(1, 5)):
        made[place] ^= 1 << int(draw.integers(8))
    return bytes(made)


def truncate(draw: np.random.Generator, content: bytes) -> bytes:
    return content[: draw.integers(0, len(content))]


def _block(draw: np.random.Generator, content: bytes) -> tuple[int, int]:
    length = int(draw.integers(1, max(2, len(content) // 4)))
    return int(draw.integers(0, len(content) - length + 1)), length


def zero(draw: np.random.Generator, content: bytes) -> bytes:
    begin, length = _block(draw, content)
    return content[:begin] + bytes(length) + content[begin + length :]


def repeat(draw: np.random.Generator, content: bytes) -> bytes:
    begin, length = _block(draw, content)
    return content[: begin + length] + content[begin:]


def lose(draw: np.random.Generator, content: bytes) -> bytes:
    begin, length = _block(draw, content)
    return content[:begin] + content[begin + length :]


def append(draw: np.random.Generator, content: bytes) -> bytes:
    return content + draw.bytes(int(draw.integers(1, 99)))


DAMAGES = (flip, truncate, zero, repeat, lose, append)
MEMBERS = [*((name, member) for name in ("encoder", "segmenter") for member in (CARD, WEIGHTS, SEAL))]


@pytest.mark.parametrize(("name", "member"), [*MEMBERS, ("checkpoint", LAST)])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage(targets, tmp_path, name, member, damage):
    target, draw = targets[name], generator(21, name, member, damage.__name__)
    number = 30 if member == LAST else 12
    mutants = [{**target.files, member: damage(draw, target.files[member])} for _ in range(number)]
    assert judge_all(target, mutants, tmp_path)["refused"] >= number - 2


def split(content: bytes) -> tuple[bytes, bytes]:
    """The text of a header, and the data behind it."""
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def join(header: bytes | dict, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor_file(target: Target) -> str:
    return LAST if LAST in target.files else WEIGHTS


@pytest.mark.parametrize("damage", [flip, zero, repeat, lose])
@pytest.mark.parametrize("name", ["encoder", "segmenter", "checkpoint"])
def test_a_damaged_header_that_was_sealed_again(targets, tmp_path, name, damage):
    target, draw = targets[name], generator(22, name, damage.__name__)
    member = tensor_file(target)
    text, data = split(target.files[member])
    # What a state says besides its tensors is no more than its maker's word; the same holds for a card below.
    mutants = [sealed({**target.files, member: join(damage(draw, text), data)}) for _ in range(30)]
    judge_all(target, mutants, tmp_path, is_card_free=name == "checkpoint")


@pytest.mark.parametrize("damage", [flip, zero, repeat, lose])
@pytest.mark.parametrize("name", ["encoder", "segmenter"])
def test_a_damaged_card_that_was_sealed_again(targets, tmp_path, name, damage):
    target, draw = targets[name], generator(23, name, damage.__name__)
    mutants = [sealed({**target.files, CARD: damage(draw, target.files[CARD])}) for _ in range(30)]
    judge_all(target, mutants, tmp_path, is_card_free=True)


Edit = Callable[[np.random.Generator, dict[str, Any], bytes], tuple[dict[str, Any] | bytes, bytes]]
"""Changes a header and its data."""


def _pick(draw: np.random.Generator, header: dict[str, Any], is_wanted=lambda entry: True) -> str:
    return str(draw.choice([name for name in header if name != "__metadata__" and is_wanted(header[name])]))


def rename(draw, header, data):
    name = _pick(draw, header)
    others = ["x", "..", "../../etc/passwd", "a\0b", "\x1b[2J", f"{name} ", name.upper(), "", "é" * 400]
    other = others[draw.integers(len(others))]
    return {other if key == name else key: entry for key, entry in header.items()}, data


def swap_names(draw, header, data):
    first = _pick(draw, header)
    second = _pick(draw, header, lambda entry: entry["shape"] != header[first]["shape"])
    return {**header, first: header[second], second: header[first]}, data


def reshape(draw, header, data):
    name = _pick(draw, header, lambda entry: entry["shape"])
    shape = header[name]["shape"]
    others = [[*shape, 1], [1, *shape], [int(np.prod(shape))], shape[::-1], [-0.0, *shape], [2**32, 2**32, *shape]]
    others = [*others, [-edge for edge in shape], [1] * 100_000, [10**4000] * 30, [0], [], [True], {"a": 1}, "12"]
    chosen = others[draw.integers(len(others))]
    return {**header, name: {**header[name], "shape": [2, *shape] if chosen == shape else chosen}}, data


def retype(draw, header, data):
    name = _pick(draw, header)
    other = ["I32", "U32", "F16", "BF16", "F64", "BOOL", "F8_E4M3", "C64", "", None, ["F32"]][draw.integers(11)]
    return {**header, name: {**header[name], "dtype": other}}, data


def move(draw, header, data):
    name = _pick(draw, header)
    begin, end = header[name]["data_offsets"]
    others = [[begin + 4, end + 4], [-4, end], [end, begin], [begin, 2**63], [begin, 2**64], [0.0, end], [begin, 1e308]]
    others = [*others, [begin], [begin, end, end], [str(begin), str(end)], [0, end - begin + 1], None, [True, end]]
    return {**header, name: {**header[name], "data_offsets": others[draw.integers(len(others))]}}, data


def add(draw, header, data):
    extra = draw.bytes(4 * int(draw.integers(0, 9)))
    entry = {"dtype": "F32", "shape": [len(extra) // 4], "data_offsets": [len(data), len(data) + len(extra)]}
    return {**header, f"encoder.extra{draw.integers(99)}": entry}, data + extra


def drop(draw, header, data):
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    is_last = bool(draw.integers(2))
    name = last if is_last else _pick(draw, header)
    kept = {key: entry for key, entry in header.items() if key != name}
    return kept, data[: header[name]["data_offsets"][0]] if is_last else data


def not_finite(draw, header, data):
    name = _pick(draw, header)
    begin, end = header[name]["data_offsets"]
    place = begin + 4 * int(draw.integers((end - begin) // 4))
    value = np.float32([np.nan, np.inf, -np.inf][draw.integers(3)]).tobytes()
    return header, data[:place] + value + data[place + 4 :]


def say_twice(draw, header, data):
    name = _pick(draw, header)
    text = json.dumps(header)
    again = json.dumps({name: header[name]})[1:-1]
    return f"{text[:-1]},{again}}}".encode(), data


EDITS: tuple[Edit, ...] = (rename, swap_names, reshape, retype, move, add, drop, not_finite, say_twice)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["encoder", "segmenter", "checkpoint"])
def test_a_lie_that_was_sealed_again(targets, tmp_path, name, edit):
    target, draw = targets[name], generator(24, name, edit.__name__)
    member, number = tensor_file(target), 16
    text, data = split(target.files[member])
    mutants = [sealed({**target.files, member: join(*edit(draw, json.loads(text), data))}) for _ in range(number)]
    assert judge_all(target, mutants, tmp_path) == {"refused": number}

"""Files made by hand to harm whoever converts weights: each refused by name, and nothing in it ever runs."""

import argparse
import bz2
import copy
import gzip
import io
import os
import pickle
import random
import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from apatite.core.errors import ModelError
from apatite.core.reasons import REASONS
from apatite.engine.foreign_torch import read_torch

PLACES = ("state_dict", "")
EVENTS: list[str] = []
IS_WATCHING = [False]
RUNS = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")


def hook(event: str, values: tuple[Any, ...]) -> None:
    if IS_WATCHING[0]:
        is_write = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in RUNS or (is_write and "__pycache__" not in str(values[0])):
            EVENTS.append(f"{event} {values[:1]}")


sys.addaudithook(hook)


class Harm:
    """What unpickling would run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class HyperParameters:
    """An object as Lightning keeps beside the weights; harmless, but whoever makes one runs its class."""


class Call:
    """Calls something with something, when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def torch_file(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


STATE = OrderedDict(a=torch.arange(6, dtype=torch.float32).reshape(2, 3), b=torch.ones(2))
GOOD = torch_file({"state_dict": STATE})


def entries(content: bytes = GOOD) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def zip_of(parts: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return stream.getvalue()


def with_pickle(content: bytes) -> bytes:
    """A good file with another pickle in it."""
    return zip_of([(name, content if name.endswith("data.pkl") else part) for name, part in entries()])


def twice() -> bytes:
    """The second entry of a name is what some readers take; the first is harmless."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zip_of([*entries(), ("archive/data.pkl", pickle.dumps({}, 2))])


def renamed_at_the_entry() -> bytes:
    """One name in the list, another at the entry itself."""
    content = zip_of(entries())
    place = content.index(b"archive/data/0")
    return content[:place] + b"archive/data/7" + content[place + 14 :]


def another_check_sum() -> bytes:
    """One bit of a tensor turned."""
    content = bytearray(GOOD)
    content[content.index(struct.pack("<f", 5.0))] ^= 1
    return bytes(content)


def bytes_between() -> bytes:
    """Something between the entries and their list."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries():
            archive.writestr(name, content)
        assert archive.fp is not None
        archive.fp.write(b"hidden")
        archive.start_dir += 6
    return stream.getvalue()


def expanded() -> bytes:
    """Four bytes that claim to be four thousand million numbers."""
    return torch_file({"a": torch.ones(1).expand(2**16, 2**16)})


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return stream.getvalue()


def scripted() -> bytes:
    parts = [*entries(), ("archive/constants.pkl", b"\x80\x02)."), ("archive/code/__torch__.py", b"def f(): pass")]
    return zip_of(parts)


ATTACKS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "code beside the weights": ("FOREIGN_CODE", lambda at: torch_file({"state_dict": STATE, "x": Harm(at)})),
    "code among the weights": ("FOREIGN_CODE", lambda at: torch_file({"state_dict": {**STATE, "x": Harm(at)}})),
    "eval": ("FOREIGN_CODE", lambda at: torch_file({"x": Call(eval, f"open({str(at)!r}, 'w')")})),
    "import": ("FOREIGN_CODE", lambda at: torch_file({"x": Call(__import__, "antigravity")})),
    "getattr": ("FOREIGN_CODE", lambda at: torch_file({"x": Call(getattr, {}, "keys")})),
    "torch's own reader": ("FOREIGN_CODE", lambda at: torch_file({"x": Call(torch.load, str(at))})),
    "a class of Lightning": ("FOREIGN_CODE", lambda at: torch_file({"state_dict": STATE, "hyper": HyperParameters()})),
    "a whole module": ("FOREIGN_CODE", lambda at: torch_file(torch.nn.Linear(2, 3))),
    "a named import, written later": ("NOT_WEIGHTS", lambda at: with_pickle(pickle.dumps({"x": Harm(at)}, 4))),
    "an old instruction": ("NOT_WEIGHTS", lambda at: with_pickle(b"(S'touch x'\nios\nsystem\n.")),
    "a second pickle behind": ("NOT_WEIGHTS", lambda at: with_pickle(pickle.dumps({}, 2) + pickle.dumps(Harm(at), 2))),
    "half a pickle": ("NOT_WEIGHTS", lambda at: with_pickle(pickle.dumps({"a": "b" * 99}, 2)[:50])),
    "an empty pickle": ("NOT_WEIGHTS", lambda at: with_pickle(b"")),
    "a bare pickle": ("NOT_WEIGHTS", lambda at: pickle.dumps(Harm(at))),
    "a pickle of protocol 0": ("NOT_WEIGHTS", lambda at: pickle.dumps(Harm(at), 0)),
    "torch before 1.6": ("NOT_WEIGHTS", lambda at: torch_file(STATE, _use_new_zipfile_serialization=False)),
    "TorchScript": ("FOREIGN_CODE", lambda at: scripted()),
    "an entry twice": ("NOT_WEIGHTS", lambda at: twice()),
    "an entry outside": ("NOT_WEIGHTS", lambda at: zip_of([*entries(), ("../../escaped", b"x")])),
    "an entry too many": ("NOT_WEIGHTS", lambda at: zip_of([*entries(), ("archive/setup.py", b"x")])),
    "no pickle": ("NOT_WEIGHTS", lambda at: zip_of(entries()[1:])),
    "another name at the entry": ("NOT_WEIGHTS", lambda at: renamed_at_the_entry()),
    "compressed": ("BOMB", lambda at: zip_of([*entries(), ("archive/data/9", bytes(10**7))], zipfile.ZIP_DEFLATED)),
    "numbers from nowhere": ("BOMB", lambda at: expanded()),
    "before the zip": ("NOT_WEIGHTS", lambda at: b"#!/bin/sh\n" + GOOD),
    "behind the zip": ("TRUNCATED", lambda at: GOOD + bytes(70_000)),
    "a little behind the zip": ("TRAILING_DATA", lambda at: GOOD + b"#!/bin/sh\n"),
    "two zips": ("TRAILING_DATA", lambda at: GOOD + GOOD),
    "between the entries": ("TRAILING_DATA", lambda at: bytes_between()),
    "a comment": ("TRAILING_DATA", lambda at: GOOD[:-2] + b"\x05\x00hello"),
    "one bit turned": ("CRC", lambda at: another_check_sum()),
    "cut short": ("TRUNCATED", lambda at: GOOD[:-40]),
    "only a beginning": ("TRUNCATED", lambda at: GOOD[:300]),
    "20 001 entries": ("TOO_LARGE", lambda at: zip_of([(f"a/data/{i}", b"") for i in range(20_001)])),
    "a sparse tensor": ("FOREIGN_CODE", lambda at: torch_file({"a": torch.eye(3).to_sparse()})),
    "complex numbers": ("FOREIGN_CODE", lambda at: torch_file({"a": torch.zeros(3, dtype=torch.complex64)})),
    "a name that moves the cursor": ("NOT_WEIGHTS", lambda at: torch_file({"a\x1b[2J": torch.ones(2)})),
    "a number as a name": ("NOT_WEIGHTS", lambda at: torch_file({7: torch.ones(2)})),
    "no tensors": ("NOT_WEIGHTS", lambda at: torch_file({"state_dict": {"a": 1}})),
    "one tensor": ("NOT_WEIGHTS", lambda at: torch_file(torch.ones(3))),
    "tensors elsewhere": ("NOT_WEIGHTS", lambda at: torch_file({"model": {"a": torch.ones(2)}})),
    "gzip": ("NOT_WEIGHTS", lambda at: gzip.compress(bytes(10**7))),
    "bzip2": ("NOT_WEIGHTS", lambda at: bz2.compress(bytes(10**7))),
    "tar": ("NOT_WEIGHTS", lambda at: tar()),
    "html": ("NOT_WEIGHTS", lambda at: b"<html>404</html>"),
    "empty": ("NOT_WEIGHTS", lambda at: b""),
}


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path):
    EVENTS.clear()
    yield
    assert EVENTS == []
    assert not (tmp_path / "harmed").exists()


def refusal(path: Path) -> ModelError:
    IS_WATCHING[0] = True
    try:
        with pytest.raises(ModelError) as caught:
            read_torch(path, PLACES)
    finally:
        IS_WATCHING[0] = False
    assert caught.value.code in REASONS
    assert caught.value.fix
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    return caught.value


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_name(name, tmp_path):
    code, build = ATTACKS[name]
    path = tmp_path / "weights.pt"
    path.write_bytes(build(tmp_path / "harmed"))
    assert refusal(path).code == code


def mutant(draw: random.Random) -> bytes:
    """A good file with a few bytes turned, taken out, put in or copied; mostly near its end, where its list stands."""
    content = bytearray(draw.choice([GOOD, zip_of(entries())]))
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(content)) if draw.random() < 0.5 else len(content) - draw.randrange(1, 700)
        length, other = draw.randint(1, 20), draw.randrange(len(content))
        match draw.randrange(5):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                del content[place : place + length]
            case 2:
                content[place:place] = draw.randbytes(length)
            case 3:
                content[place : place + 4] = draw.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
            case 4:
                content[place : place + length] = content[other : other + length]
    return bytes(content)


def test_mutants_are_refused_or_read_as_they_were(tmp_path):
    draw, path, num_read = random.Random(1), tmp_path / "weights.pt", 0
    for _ in range(300):
        path.write_bytes(mutant(draw))
        try:
            found = read_torch(path, PLACES)
        except ModelError as error:
            assert error.code in REASONS
            continue
        num_read += 1
        assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
            name: tensor.tolist() for name, tensor in STATE.items()
        }
    assert 0 < num_read < 60


def test_what_would_have_run_is_named(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(torch_file({"state_dict": STATE, "x": [Harm(tmp_path / "harmed"), HyperParameters()]}))
    said = str(refusal(path))
    assert "posix.system" in said
    assert "HyperParameters" in said


def test_a_link_a_folder_a_pipe_and_nothing(tmp_path):
    (tmp_path / "real.pt").write_bytes(GOOD)
    (tmp_path / "link.pt").symlink_to(tmp_path / "real.pt")
    (tmp_path / "folder.pt").mkdir()
    os.mkfifo(tmp_path / "pipe.pt")
    for name in ("link.pt", "folder.pt", "pipe.pt", "missing.pt"):
        assert refusal(tmp_path / name).code == "IO_ERROR"


def test_a_file_that_is_written_to_meanwhile(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(GOOD)
    load = torch.load

    def load_and_touch(*arguments, **options):
        os.utime(path, ns=(0, 1))
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", load_and_touch)
    assert refusal(path).code == "IO_ERROR"


def test_what_stands_beside_published_weights_is_read_as_nothing(tmp_path):
    import numpy as np

    path = tmp_path / "weights.pt"
    beside = {
        "args": argparse.Namespace(arch="swin", out=Path("runs")),
        "best_acc": np.float64(0.5),
        "losses": np.arange(3.0),
        "epoch": 7,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.99)}]},
    }
    path.write_bytes(torch_file({"state_dict": {**STATE, "num": 3}, **copy.deepcopy(beside)}))
    IS_WATCHING[0] = True
    found = read_torch(path, PLACES)
    IS_WATCHING[0] = False
    assert found.place == "state_dict"
    assert sorted(found.beside) == sorted([*beside, "num"])
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }

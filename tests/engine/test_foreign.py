"""Foreign weights come out of their file as they are; who breaks the process that reads them gains nothing."""

import os
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from apatite.core.errors import ApatiteError, ModelError
from apatite.engine import foreign, foreign_child
from apatite.engine.foreign import ForeignLimits, read_foreign
from apatite.engine.foreign_guard import TRIED_TO_ACT, end_where_it_acts
from apatite.io.dicom.pipe import Pipe

TENSORS = {
    "wide": torch.arange(30, dtype=torch.float32).reshape(2, 3, 5),
    "turned": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([0.375], dtype=torch.bfloat16),
    "counts": torch.tensor([3, 2**40]),
    "scalar": torch.tensor(7.0),
    "nothing": torch.zeros(0, 4),
}


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    torch.save({"epoch": 3, "state_dict": OrderedDict(TENSORS), "optimizer": {"m": torch.ones(2)}}, path)
    return path


def test_a_torch_file_is_read_in_a_process_of_its_own(saved):
    found = read_foreign(saved, ("student", "state_dict", ""))
    assert_same(found.tensors, TENSORS)
    assert (found.place, found.beside) == ("state_dict", ("epoch", "optimizer"))
    digest = subprocess.run(["sha256sum", saved], capture_output=True, text=True, check=True).stdout.split()[0]
    assert found.sha256 == digest
    assert "apatite.engine.foreign_child" not in " ".join(open_processes())


def open_processes() -> list[str]:
    """Command lines of this process's own children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (folder / "stat").read_text(), (folder / "cmdline").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(command)
    return found


def test_pieces_of_a_large_tensor_are_joined(saved, monkeypatch):
    monkeypatch.setattr(foreign_child, "MAX_BYTES", 7)
    sent = list(foreign_child._answers(saved, ["state_dict"]))
    assert max(len(content) for _, content in sent) == 7
    read, write = os.pipe()
    pipe = Pipe(read, write)
    for values, content in sent:
        pipe.send(values, content)
    monkeypatch.setattr(foreign, "MAX_BYTES", 7)
    assert_same(foreign._received(pipe, saved, 1.0).tensors, TENSORS)


def test_safetensors_are_read_directly(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"  # its content decides, not its name
    tensors = {name: tensor.contiguous() for name, tensor in sorted(TENSORS.items())}
    save_file(tensors, path, metadata={"format": "pt"})
    monkeypatch.setattr(foreign, "_read_in_child", None)
    found = read_foreign(path, ("state_dict",))
    assert {name: found.tensors[name].tolist() for name in tensors} == {n: t.tolist() for n, t in tensors.items()}
    assert (found.place, found.beside) == ("", ("free text 'format'",))


def header_only(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("LENGTH_LIE", header_only(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', b"1234")),
        ("TRAILING_DATA", header_only(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234" + b"PK")),
        ("TRUNCATED", (10**8).to_bytes(8, "little") + b'{"a":'),
        ("TOO_LARGE", (10**7).to_bytes(8, "little") + b"{" + b" " * 10**7),
        ("NOT_WEIGHTS", header_only(b'{"a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}}', b"1234")),
    ],
)
def test_hostile_safetensors(code, content, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_foreign(path, ("",))
    assert caught.value.code == code


def test_a_refusal_comes_back_whole(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {"a": torch.ones(1)}, "b": ForeignLimits()}, path)
    with pytest.raises(
        ModelError, match=r"names apatite.engine.foreign.ForeignLimits.*nothing of it was run"
    ) as caught:
        read_foreign(path, ("state_dict",))
    assert (caught.value.code, caught.value.where) == ("FOREIGN_CODE", str(path))
    assert "safetensors" in caught.value.fix


def test_a_file_that_needs_more_memory_than_it_may(saved):
    with pytest.raises(ModelError, match="more memory") as caught:
        read_foreign(saved, ("state_dict",), ForeignLimits(spare_bytes=0))
    assert caught.value.code == "TOO_LARGE"


@pytest.mark.parametrize(
    ("act", "status"),
    [("while True: pass", -signal.SIGXCPU), ("bytearray(2**31)", 1), ("print('as long as it keeps to them')", 0)],
)
def test_limits_hold(act, status):
    code = f"from apatite.engine.foreign_guard import take_limits\ntake_limits(0, 2**30)\n{act}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == status


@pytest.mark.parametrize(
    ("status", "code"), [(-signal.SIGXCPU, "DECODER_TIMEOUT"), (-signal.SIGSEGV, "DECODER_CRASH"), (71, "FOREIGN_CODE")]
)
def test_the_end_of_the_process_is_a_refusal_of_the_file(status, code):
    act = f"os._exit({status})" if status > 0 else f"os.kill(os.getpid(), {-status})"
    ended = subprocess.Popen([sys.executable, "-c", f"import os; {act}"])
    error = foreign._ended(ended, Path("weights.pt"))
    assert error.code == code
    assert error.fix


def test_a_process_that_does_not_start_is_no_fault_of_the_file(saved, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ApatiteError, match="does not start"):
        read_foreign(saved, ("",))


def test_whoever_acts_in_the_process_ends_it(tmp_path):
    made = str(tmp_path / "made")
    acts = [
        "os.system('true')",
        f"open({made!r}, 'w')",
        f"os.open({made!r}, os.O_RDWR | os.O_CREAT)",
        "socket.socket()",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "subprocess.Popen(['true'])",
        "ctypes.CDLL('libm.so.6')",
    ]
    act_in_a_copy = """
if (pid := os.fork()) == 0:
    sys.addaudithook(end_where_it_acts)
    try:
        {}
    except BaseException:
        pass
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"""
    code = "import ctypes, os, socket, subprocess, sys\nfrom apatite.engine.foreign_guard import end_where_it_acts"
    code += "".join(act_in_a_copy.format(act) for act in acts)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(TRIED_TO_ACT)] * len(acts), done.stderr
    assert not Path(made).exists()


def test_reading_is_no_act():
    for event, arguments in (("open", ("a", "r", os.O_RDONLY)), ("import", ("x",)), ("os.listdir", (".",))):
        end_where_it_acts(event, arguments)


def answer(**changes: Any) -> dict[str, Any]:
    plain = {"place": "", "beside": [], "sha256": "0" * 64}
    return {**plain, "tensors": [{"name": "a", "dtype": "F32", "shape": [2]}], **changes}


EIGHT = bytes(8)
LIES: dict[str, list[tuple[dict[str, Any], bytes]]] = {
    "too few bytes": [(answer(), b""), ({}, EIGHT[:4])],
    "too many bytes": [(answer(), b""), ({}, EIGHT + EIGHT)],
    "a name twice": [(answer(tensors=answer()["tensors"] * 2), b""), ({}, EIGHT), ({}, EIGHT)],
    "a name that moves the cursor": [(answer(tensors=[{"name": "\x1b[2J", "dtype": "F32", "shape": [2]}]), b"")],
    "no type": [(answer(tensors=[{"name": "a", "dtype": "object", "shape": [2]}]), b"")],
    "edges below nothing": [(answer(tensors=[{"name": "a", "dtype": "F32", "shape": [-2, -1]}]), b"")],
    "more than fits": [(answer(tensors=[{"name": "a", "dtype": "F32", "shape": [2**40]}]), b"")],
    "an edge without end": [(answer(tensors=[{"name": "a", "dtype": "F32", "shape": [float("inf")]}]), b"")],
    "nothing of much": [(answer(tensors=[{"name": "a", "dtype": "F32", "shape": [0, 2**62, 2**62]}]), b"")],
    "tensors that are text": [(answer(tensors="abc"), b"")],
    "a refusal that is a number": [({"refusal": 3}, b"")],
    "no answer": [({}, b"")],
    "another code": [({"refusal": {"what": "a", "fix": "b", "code": "OK"}}, b"")],
}


@pytest.mark.parametrize("name", LIES)
def test_a_child_that_lies(name):
    read, write = os.pipe()
    pipe = Pipe(read, write)
    for values, content in LIES[name]:
        pipe.send(values, content)
    os.close(write)
    with pytest.raises(foreign._NONSENSE):
        foreign._received(pipe, Path("weights.pt"), 1.0)
    os.close(read)


def test_a_childs_words_cannot_move_the_cursor():
    said = foreign._refusal({"what": "bad \x1b[2J" + "x" * 5000, "fix": "", "code": "BOMB"}, Path("weights.pt"))
    assert str(said).isprintable()
    assert len(str(said)) < 1000

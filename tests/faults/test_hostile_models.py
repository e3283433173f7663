"""Files made by hand to harm whoever opens a model: refused unread, and nothing runs, connects, writes or hangs."""

import bz2
import gzip
import io
import json
import os
import pickle
import resource
import signal
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from apatite.cli import main
from apatite.core.config import read_yaml
from apatite.core.errors import ApatiteError, ConfigError
from apatite.engine.checkpoint import load_state
from apatite.io.model_package import read_package, read_summary

PEAK_KIB = 256 * 1024
EVENTS: list[str] = []
IS_WATCHING = [False]
RUNS = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
FORBIDDEN = (*RUNS, "socket.connect")


def hook(event: str, values: tuple[Any, ...]) -> None:
    if not IS_WATCHING[0]:
        return
    is_write = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event in FORBIDDEN or (is_write and "__pycache__" not in str(values[0])):
        EVENTS.append(f"{event} {values[:1]}")


sys.addaudithook(hook)


class Hangs(BaseException):
    """A reader waits for ever. No error that a reader might catch, as TimeoutError, an OSError, would be."""


class Harm:
    """What unpickling would run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path):
    """No code, no process, no connection, no file written; no wait for ever; little memory."""

    def stop(number: int, frame: object) -> None:
        raise Hangs

    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    EVENTS.clear()
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert EVENTS == []
    assert not (tmp_path / "harmed").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < PEAK_KIB


@pytest.fixture
def package(tuned: Path, tmp_path: Path) -> Path:
    """A copy of a good segmenter that may be harmed."""
    folder = tmp_path / "package"
    folder.mkdir()
    for path in (tuned / "model").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def seal(folder: Path) -> None:
    import hashlib

    names = ("model.json", "weights.safetensors")
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "MANIFEST.sha256").write_text("".join(lines))


def refused(load: Callable[[], object]) -> str:
    """The code with which something is refused, in less than two seconds of work."""
    started_s = time.process_time()
    IS_WATCHING[0] = True
    try:
        with pytest.raises(ApatiteError) as caught:
            load()
    finally:
        IS_WATCHING[0] = False
    assert time.process_time() - started_s < 2
    assert caught.value.fix
    assert str(caught.value).isprintable()
    return caught.value.code


def verb_refuses(capsys, scan: Path, folder: Path, *verbs: str) -> None:
    """The command refuses with exit code 3, says so without a control character, and writes nothing."""
    out = folder.parent / "out"
    for verb in verbs:
        arguments = [verb, "-m", str(folder), *(["-i", str(scan), "-o", str(out)] if verb == "predict" else [])]
        IS_WATCHING[0] = True
        code = main.run(arguments)
        IS_WATCHING[0] = False
        shown = capsys.readouterr()
        assert (code, shown.err.startswith("error: ")) == (3, True), shown.err
        assert shown.err.strip().isprintable()
        assert len(shown.err) < 2000
    assert not out.exists()


@pytest.fixture
def scan(head_study) -> Path:
    return head_study.manifest.parent / "head-07.nii.gz"


def _torch_file(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def _zip(marker: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harm(marker)))
        archive.writestr("../../escaped", "x")
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        link = tarfile.TarInfo("weights.safetensors")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("../../escaped"))
    return stream.getvalue()


def _array(content: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, content, allow_pickle=True)
    return stream.getvalue()


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


def _many(number: int) -> bytes:
    return json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(number)}).encode()


WHOLE = save({"a": np.arange(6, dtype=np.float32)})
PAYLOADS: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda marker: pickle.dumps(Harm(marker)),
    "old pickle": lambda marker: pickle.dumps(Harm(marker), protocol=0),
    "torch zip": lambda marker: _torch_file({"a": torch.zeros(3), "b": Harm(marker)}),
    "torch legacy": lambda marker: _torch_file({"b": Harm(marker)}, _use_new_zipfile_serialization=False),
    "zip": _zip,
    "safetensors and zip": lambda marker: WHOLE + _zip(marker),
    "zip in a tensor": lambda marker: save({"a": np.frombuffer(_zip(marker), dtype=np.uint8)}),
    "pickle behind a header": lambda marker: header(b"{}", pickle.dumps(Harm(marker))),
    "tar of links": lambda marker: _tar(),
    "array of objects": lambda marker: _array(np.array([Harm(marker)], dtype=object)),
    "gzip bomb": lambda marker: gzip.compress(bytes(50_000_000)),
    "bzip2 bomb": lambda marker: bz2.compress(bytes(50_000_000)),
    "yaml": lambda marker: f"!!python/object/apply:os.system ['touch {marker}']".encode(),
    "script": lambda marker: f"#!/bin/sh\ntouch {marker}\n".encode(),
    "html": lambda marker: b"<html><script>fetch('//example.org')</script>",
    "empty": lambda marker: b"",
    "seven bytes": lambda marker: b"\0" * 7,
    "length of 2^64 - 1": lambda marker: b"\xff" * 8 + WHOLE[8:],
    "length of 100 MB": lambda marker: (10**8).to_bytes(8, "little") + b"[" * 10**8,
    "100 000 tensors": lambda marker: header(_many(100_000)),
    "20 001 tensors": lambda marker: header(_many(20_001)),
    "deep": lambda marker: header(b'{"a":' * 500_000),
    "deep and closed": lambda marker: header(b'{"a":' * 900 + b"1" + b"}" * 900),
    "many lists": lambda marker: header(b"[" + b"[]," * 1_300_000 + b"1]"),
    "many objects": lambda marker: header(b"[" + b'{"":{}},' * 500_000 + b"1]"),
    "many digits": lambda marker: header(b'{"a":' + b"9" * 10**6 + b"}"),
    "a large number": lambda marker: header(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', b"1234"),
    "many large edges": lambda marker: header(
        b'{"a":{"dtype":"F32","shape":[' + b",".join([b"9" * 4000] * 900) + b'],"data_offsets":[0,4]}}', b"1234"
    ),
    "utf-16": lambda marker: header("{}".encode("utf-16")),
    "byte order mark": lambda marker: header(b"\xef\xbb\xbf" + b"{}"),
    "half a character": lambda marker: header(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
    "text that is no text": lambda marker: header(b'{"__metadata__":{"state":{"step":1}}}'),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_in_place_of_weights(name, package, scan, tmp_path, capsys):
    content = PAYLOADS[name](tmp_path / "harmed")
    (package / "weights.safetensors").write_bytes(content)
    assert refused(lambda: read_summary(package))
    assert refused(lambda: read_package(package))
    assert refused(lambda: load_state(package / "weights.safetensors"))
    seal(package)
    verb_refuses(capsys, scan, package, "predict")
    if name != "zip in a tensor":  # a sound file of other weights: only who builds the network can tell
        verb_refuses(capsys, scan, package, "inspect")


def changed(folder: Path, place: tuple[str, ...], value: Any) -> None:
    """Give the card another value and seal it."""
    values = json.loads((folder / "model.json").read_text())
    node = values
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    (folder / "model.json").write_text(json.dumps(values))
    seal(folder)


ENCODER = ("architecture", "encoder")
NESTED: dict[str, Any] = {}
for _ in range(400):
    NESTED = {"a": NESTED}
ESCAPES = "\x1b[2J\x1b]0;owned\x07"
ANY_READER = {
    "class path": (("architecture", "_target_"), "os.system", ("predict",)),
    "class path above": (("_target_",), "os.system", ("predict", "inspect")),
    "an input without end": (("input", "shape"), [10**5] * 3, ("predict", "inspect")),
    "voxels without extent": (("input", "spacing_mm"), [1e-9] * 3, ("predict", "inspect")),
    "nested": (("architecture", "encoder"), NESTED, ("predict", "inspect")),
    "moves the cursor": (("recipe",), ESCAPES, ("predict", "inspect")),
    "moves the cursor as a key": ((ESCAPES,), 1, ("predict", "inspect")),
    "moves the cursor as a label": (("label_names",), {"1": f"calcium{ESCAPES}"}, ("predict", "inspect")),
    "right to left": (("recipe",), "sound\u202e\u2066", ("predict", "inspect")),
    "half a character": (("recipe",), "\ud800", ("predict", "inspect")),
    "two names of a label": (("label_names",), {"1": "calcium", "01": "bone"}, ("predict", "inspect")),
    "another version": (("format_version",), 10**3000, ("predict", "inspect")),
    "a long value": (("kind",), "k" * 900_000, ("predict", "inspect")),
    "a calibration that is none": (("calibration",), {"labels": {"1": 3}}, ("predict", "inspect")),
}
BUILDER = {
    "a width without end": ((*ENCODER, "dim"), 6 * 10**9),
    "a wide width": ((*ENCODER, "dim"), 6 * 10**5),
    "blocks without end": ((*ENCODER, "depth"), 10**9),
    "many blocks": ((*ENCODER, "depth"), 10**5),
    "a width of thousands of digits": ((*ENCODER, "dim"), 6 * 10**4000),
    "no heads": ((*ENCODER, "heads"), 0),
    "a negative width": ((*ENCODER, "dim"), -240),
    "a negative depth": ((*ENCODER, "depth"), -1),
    "patches without extent": ((*ENCODER, "patch"), [0, 8, 8]),
    "a negative patch": ((*ENCODER, "patch"), [-4, 8, 8]),
    "a crop without end": ((*ENCODER, "crop"), [8 * 10**9] * 3),
    "a large crop": ((*ENCODER, "crop"), [2**18] * 3),
    "many windows": ((*ENCODER, "windows_hu"), [[0.0, 1.0]] * 20_000),
    "labels without end": (("architecture", "num_labels"), 10**9),
    "another decoder": (("architecture", "decoder", "name"), "upscale"),
    "a decoder that is none": (("architecture", "decoder", "name"), "../../x"),
    "a wide decoder": (("architecture", "decoder", "mae", "dim"), 6 * 10**5),
    "text": ((*ENCODER, "dim"), "__import__('os').system('true')"),
}


@pytest.mark.parametrize("name", [*ANY_READER, *BUILDER])
def test_a_hostile_card(name, package, scan, capsys):
    place, value, *verbs = ANY_READER[name] if name in ANY_READER else (*BUILDER[name], ("predict",))
    changed(package, place, value)
    verb_refuses(capsys, scan, package, *verbs[0])


def test_a_calibration_of_other_values(package, scan, capsys):
    """It is read when scans are predicted, after the card was found in order."""
    values = json.loads((package / "model.json").read_text())
    values["domains"]["calibration"] = ["real"]
    values["calibration"] = {"labels": {"1": {"gated": {"threshold": "0"}}}, "num_cases": 3}
    (package / "model.json").write_text(json.dumps(values))
    seal(package)
    verb_refuses(capsys, scan, package, "predict")


TEXTS = {
    "yaml": b"!!python/object/apply:os.system ['true']",
    "not a number": b'{"format_version": NaN}',
    "deep": b'{"a":' * 150_000,
    "many digits": b'{"format_version": ' + b"1" * 10**6 + b"}",
    "twice": b'{"format_version": 1, "format_version": 1}',
    "utf-16": '{"format_version": 1}'.encode("utf-16"),
    "a list": b"[]",
    "too long": b" " * 2**21,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_card_that_is_no_card(name, package, scan, capsys):
    (package / "model.json").write_bytes(TEXTS[name])
    seal(package)
    verb_refuses(capsys, scan, package, "inspect", "predict")


def test_markup_in_a_card_is_shown_as_it_is(package, capsys):
    changed(package, ("recipe",), "<b>[red]=1+1")
    assert main.run(["inspect", "-m", str(package)]) == 0
    assert "<b>[red]=1+1" in capsys.readouterr().out


MEMBERS = ("model.json", "weights.safetensors", "MANIFEST.sha256")


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("kind", ["link", "link to a device", "folder", "pipe", "device", "broken link"])
def test_a_member_that_is_no_file(kind, member, package, scan, tmp_path, capsys):
    path = package / member
    path.rename(tmp_path / "away")
    if kind == "link":
        path.symlink_to(tmp_path / "away")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "broken link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        try:
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root may make a device")
    verb_refuses(capsys, scan, package, "inspect", "predict")
    assert refused(lambda: load_state(path)) == "IO_ERROR"


def test_a_file_that_claims_and_has_a_terabyte(package, scan, capsys):
    """Without blocks on disk; its header and its length agree."""
    text = json.dumps({"a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    with (package / "weights.safetensors").open("wb") as file:
        file.write(header(text))
        file.truncate(8 + len(text) + 2**40)
    assert refused(lambda: read_summary(package)) == "TOO_LARGE"
    assert refused(lambda: read_package(package)) == "TOO_LARGE"
    assert refused(lambda: load_state(package / "weights.safetensors"))


def test_a_folder_of_many_files_with_odd_names(package, scan, capsys):
    for number in range(300):
        (package / f"\x1b[2J{number}").write_bytes(b"")
    verb_refuses(capsys, scan, package, "inspect", "predict")


ALIASES = "steps: [&a0 [x, x, x, x, x, x, x, x, x], " + "".join(
    f"&a{n + 1} [{', '.join([f'*a{n}'] * 9)}], " for n in range(5)
)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "a: !!python/object/new:subprocess.Popen [['true']]",
        "[" * 100_000,
        "a: " + "9" * 10**5,
        "a: 2001-99-99",
        "{[a]: 1}",
        "a: " + "x" * 2**20,
        "\0",
        "- 1",
    ],
)
def test_yaml_that_is_no_configuration(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    IS_WATCHING[0] = True
    with pytest.raises(ConfigError):
        read_yaml(tmp_path / "config.yaml")
    IS_WATCHING[0] = False


def test_yaml_aliases_do_not_multiply(head_study, tmp_path, capsys):
    """Nine to the sixth words in a few lines, which a message would spell out."""
    (tmp_path / "config.yaml").write_text(f"{ALIASES}]\n")
    command = ["finetune", "-d", str(head_study.prepared), "-o", str(tmp_path / "run"), "--config"]
    assert main.run([*command, str(tmp_path / "config.yaml")]) == 2
    assert 50 < len(capsys.readouterr().err) < 2000


def test_a_configuration_that_is_a_pipe(head_study, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    command = ["finetune", "-d", str(head_study.prepared), "-o", str(tmp_path / "run")]
    assert main.run([*command, "--config", str(tmp_path / "pipe")]) == 2

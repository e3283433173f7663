"""A child that dies, hangs, lies or runs out of memory costs one file; the parent goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless

from apatite.core.errors import ApatiteError
from apatite.io.dicom import child
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.parse import parse_headers
from apatite.io.dicom.pipe import Pipe, PipeBrokenError, PipeLateError
from apatite.io.dicom.pixels import PixelReader, Pixels

# A child that answers as the real one does, but does what a file's name says first.
FAKE = """
import json, os, signal, sys, time
from apatite.io.dicom import child_loop, parse
from apatite.io.dicom.header import Refusal
parse_headers = child_loop.parse_headers
def act(path, limits):
    name = path.name
    if "abort" in name: os.abort()
    if "kill" in name: os.kill(os.getpid(), signal.SIGKILL)
    if "exit" in name: os._exit(0)
    if "hang" in name: time.sleep(60)
    if "spin" in name:
        while True: pass
    if "grow" in name: bytearray(2 ** 40)
    if "stop" in name: raise RuntimeError("canary in the text of an exception")
    if "print" in name: print("noise " * 1000, flush=True); os.write(1, b"noise")
    if "nonsense" in name: os.write(answers, b"\\xff" * 80); time.sleep(60)
    if "code" in name: return Refusal(code="NO_SUCH_CODE", what="", path=path)
    return parse_headers(path, limits)
dup = os.dup
def kept(descriptor):
    global answers
    answers = dup(descriptor)
    return answers
os.dup = kept
child_loop.parse_headers = act
child_loop.main()
"""


@pytest.fixture
def misled(monkeypatch, tmp_path) -> Decoder:
    """A decoder whose child misbehaves; 2 CPU seconds, 4 seconds in all."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    real = subprocess.Popen

    def popen(command, **settings):
        assert command[1:4] == ["-P", "-m", "apatite.io.dicom.child_loop"]
        return real([sys.executable, str(script), command[4]], **settings)

    monkeypatch.setattr(child.subprocess, "Popen", popen)
    return Decoder(ReadLimits(cpu_s=1, wall_s=4.0))


def test_headers_come_as_from_the_same_process(write_ct, write_enhanced, decoder, tmp_path):
    (tmp_path / "text").write_text("no DICOM, but long enough")
    paths = [write_ct(0), write_enhanced(4), tmp_path / "text", write_ct(1), tmp_path / "none"]
    assert list(decoder.headers(paths)) == [parse_headers(path) for path in paths]


def test_pixels_come_as_from_the_same_process(write_ct, write_enhanced, decoder):
    paths = [
        write_ct(0),
        write_ct(1, PixelPaddingValue=920, RescaleIntercept=-1900),
        write_enhanced(3),
        write_ct(2, RescaleSlope=0.5),
    ]
    headers = [header for found in decoder.headers(paths) if isinstance(found, list) for header in found]
    assert len(headers) == 6
    reader = PixelReader(ReadLimits())
    for header, found in zip(headers, decoder.pixels(headers), strict=True):
        expected = reader.read(header.path, header.frame)
        assert isinstance(found, Pixels)
        assert isinstance(expected, Pixels)
        assert found.hu.dtype == expected.hu.dtype
        np.testing.assert_array_equal(found.hu, expected.hu)
        assert (found.is_padding is None) == (expected.is_padding is None)
        if found.is_padding is not None:
            np.testing.assert_array_equal(found.is_padding, expected.is_padding)


@pytest.mark.parametrize(
    ("name", "code"),
    [("abort", "DECODER_CRASH"), ("kill", "DECODER_CRASH"), ("exit", "DECODER_CRASH"), ("nonsense", "DECODER_CRASH"),
     ("hang", "DECODER_TIMEOUT"), ("spin", "DECODER_TIMEOUT"), ("grow", "TOO_LARGE"), ("stop", "INTERNAL"),
     ("code", "DECODER_CRASH")],
)  # fmt: skip
def test_a_file_that_ends_the_child_is_named_and_the_others_are_read(name, code, misled, write_ct):
    paths = [write_ct(0), write_ct(1, f"{name}.dcm"), write_ct(2)]
    began = time.monotonic()
    with misled:
        before, bad, after = misled.headers(paths)
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert isinstance(bad, Refusal)
    assert (bad.code, bad.path) == (code, paths[1])
    assert "canary" not in bad.what
    assert time.monotonic() - began < 20


def test_what_a_library_prints_does_not_reach_the_answers(misled, write_ct):
    with misled:
        assert all(isinstance(found, list) for found in misled.headers([write_ct(0, "print.dcm"), write_ct(1)]))
    assert misled.num_started == 1


def test_a_child_that_dies_at_every_file(misled, write_ct):
    paths = [write_ct(number, f"abort-{number}.dcm") for number in range(3)]
    with misled:
        assert [found.code for found in misled.headers(paths) if isinstance(found, Refusal)] == ["DECODER_CRASH"] * 3
    assert misled.num_started == 3


def test_answers_that_nobody_waited_for_are_not_taken_for_others(decoder, write_ct):
    paths = [write_ct(number) for number in range(5)]
    first = next(iter(decoder.headers(paths)))
    assert isinstance(first, list)
    (last,) = decoder.headers(paths[4:])
    assert isinstance(last, list)
    assert last[0].instance_number == 5


def test_more_files_than_fit_a_message(decoder, write_ct):
    path = write_ct(0)
    assert sum(isinstance(found, list) for found in decoder.headers([path] * 150)) == 150


def test_a_file_replaced_between_header_and_pixels(decoder, write_ct):
    path = write_ct(0)
    (found,) = decoder.headers([path])
    assert isinstance(found, list)
    write_ct(1, "000.dcm")
    (pixels,) = decoder.pixels(found)
    assert isinstance(pixels, Refusal)
    assert pixels.code == "IO_ERROR"


def test_a_process_that_cannot_start_is_no_fault_of_a_file(monkeypatch, write_ct):
    monkeypatch.setattr(child.sys, "executable", "/bin/false")
    with Decoder() as decoder, pytest.raises(ApatiteError, match="does not start"):
        list(decoder.headers([write_ct(0)]))


def test_the_child_ends_with_its_context(write_ct):
    with Decoder() as decoder:
        list(decoder.headers([write_ct(0)]))
        process = decoder._process
        assert process is not None
        limits = Path(f"/proc/{process.pid}/limits")
        if limits.exists():
            text = limits.read_text()
            assert "Max address space         6442450944" in text
            assert "Max file size             0" in text
            assert "Max core file size        0" in text
    assert process.poll() == -signal.SIGKILL


def test_memory_of_a_bomb_is_not_had(write_ct):
    """A JPEG 2000 file that claims 4096 x 4096 pixels, in tiles of one."""
    path = write_ct(0, stored=np.zeros((64, 64), np.int16), syntax=JPEG2000Lossless)
    image = pydicom.dcmread(path)
    edge, many = (64).to_bytes(4, "big"), (4096).to_bytes(4, "big")
    image.PixelData = image.PixelData.replace(edge * 2, many * 2, 1).replace(edge * 2, (1).to_bytes(4, "big") * 2, 1)
    image.Rows = image.Columns = 4096
    image.save_as(path)
    with Decoder() as decoder:
        (headers,) = decoder.headers([path])
        assert isinstance(headers, list)
        (found,) = decoder.pixels(headers)
    assert isinstance(found, Refusal)
    assert found.code == "TOO_LARGE"


def test_a_pipe_keeps_to_its_protocol():
    (read_from, write_to), (other_from, other_to) = os.pipe(), os.pipe()
    pipe, other = Pipe(read_from, other_to), Pipe(other_from, write_to)
    other.send({"one": 1}, b"abc")
    assert pipe.receive(1.0) == ({"one": 1}, bytearray(b"abc"))
    with pytest.raises(PipeLateError):
        pipe.receive(0.05)
    with pytest.raises(PipeLateError):
        pipe.send({}, bytes(2**20), wait_s=0.05)
    for nonsense in (b"\xff" * 8, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\2\0\0\0\0{\xff"):
        os.write(write_to, nonsense)
        with pytest.raises(PipeBrokenError):
            pipe.receive(1.0)
    os.close(write_to)
    with pytest.raises(PipeBrokenError):
        pipe.receive(1.0)
    for descriptor in (read_from, other_from, other_to):
        os.close(descriptor)


def test_a_header_is_the_same_on_both_sides(decoder, write_ct):
    """All kinds of values travel: not finite numbers, missing ones, text in other alphabets."""
    path = write_ct(0, SpecificCharacterSet="ISO_IR 192", SeriesDescription="頭部", RescaleSlope="1E+30", KVP="")
    (found,) = decoder.headers([path])
    assert isinstance(found, list)
    assert isinstance(found[0], Header)
    assert found == parse_headers(path)
    assert found[0].kvp is None

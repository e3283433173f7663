"""Only a file is opened, and never more of it than was asked for."""

import os
from pathlib import Path

import pytest

from apatite.core.errors import ModelError
from apatite.io.regular_file import open_regular, read_regular


def test_reads_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_regular(tmp_path / "x", limit=5) == b"12345"
    with pytest.raises(ModelError) as caught:
        read_regular(tmp_path / "x", limit=4)
    assert caught.value.code == "TOO_LARGE"
    with open_regular(tmp_path / "x") as file:
        assert file.read(2) == b"12"


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "link", "broken link", "device", "null byte"])
def test_anything_else_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    path = tmp_path / "other"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif "link" in kind:
        path.symlink_to(tmp_path / ("x" if kind == "link" else "nowhere"))
    elif kind == "device":
        path = Path("/dev/zero")
    num_open = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None  # noqa: PTH208
    with pytest.raises(ModelError) as caught:
        open_regular(Path("a\0b") if kind == "null byte" else path)
    assert caught.value.code == "IO_ERROR"
    assert caught.value.fix
    assert ("link" in caught.value.what) == ("link" in kind)
    if num_open is not None:
        assert len(os.listdir("/proc/self/fd")) == num_open  # noqa: PTH208

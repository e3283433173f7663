"""A compiled function runs once in every thread, whichever threads those are."""

from typing import no_type_check

import numpy as np
import pytest
from numba import cfunc, types
from numba.np.numpy_support import carray

from apatite.nn import torch_threads
from apatite.nn.torch_threads import run_in_threads
from apatite.nn.vectors import take_next


@pytest.fixture(scope="module")
def sign_in():
    """Each call takes the next free line of the list and signs it."""

    @cfunc(types.void(types.voidptr))
    @no_type_check
    def sign(address):
        lines = carray(address, 10, np.int64)
        place = take_next(lines)
        lines[place + 1] += 1

    return sign.ctypes


@pytest.fixture(params=["torch's threads", "our own"])
def whose(request, monkeypatch):
    if request.param == "our own":
        monkeypatch.setattr(torch_threads, "_torch_parallel", lambda: None)
    elif torch_threads._torch_parallel() is None:
        pytest.skip("this torch was not built with GNU's OpenMP")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_thread_calls_it_once(whose, sign_in, threads):
    for _ in range(50):
        lines = np.zeros(10, np.int64)
        run_in_threads(sign_in, lines.ctypes.data, threads)
        assert lines.tolist() == [threads] + [1] * threads + [0] * (9 - threads)

"""Runs a compiled function in the threads that torch itself computes in.

After each of its operations torch's threads stay awake for some milliseconds, waiting for the next. A second set of
threads would share the cores with them and gain nothing. Where torch was built with GNU's OpenMP, as its Linux
packages are, the function is therefore handed to that same set; elsewhere a pool of our own has to do.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

Compiled = Callable[[int], None]
"""A C function of one address."""


def run_in_threads(function: Compiled, argument: int, threads: int) -> None:
    """Call a function once in each of several threads, with the same argument, and wait for all.

    Args:
        function: A `ctypes` function pointer; it must not need Python.
        argument: Address of what it works on.
        threads: How many.
    """
    if threads == 1:
        function(argument)
        return
    parallel = _torch_parallel()
    if parallel is not None:
        parallel(ctypes.cast(function, ctypes.c_void_p), argument, threads, 0)  # type: ignore[arg-type]
        return
    others = [_pool(threads, os.getpid()).submit(function, argument) for _ in range(threads - 1)]
    function(argument)
    for other in others:
        other.result()


@functools.cache
def _torch_parallel() -> Callable[..., None] | None:
    """The entry of the OpenMP that torch has loaded, if it is GNU's."""
    if "OpenMP" not in torch.__config__.parallel_info() or not hasattr(os, "RTLD_NOLOAD"):
        return None
    try:
        # Only what is loaded already: another copy would be another set of threads.
        parallel = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


@functools.cache
def _pool(threads: int, _process: int) -> ThreadPoolExecutor:
    """Threads that stay; a forked process gets its own, because threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="attention")

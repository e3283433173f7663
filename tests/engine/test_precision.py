"""The fastest mix is chosen once, among the mixes that the device can do."""

import time

import pytest
import torch

from apatite.core.config import dump, load
from apatite.core.errors import ConfigError
from apatite.engine import precision as module
from apatite.engine.precision import Precision, candidates, choose_device, measure_precision

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False])
def has_bf16(request, monkeypatch) -> bool:
    monkeypatch.setattr(module, "supports_bf16", lambda device: request.param)
    return request.param


def test_candidates_on_a_cpu(has_bf16):
    found = list(candidates(CPU))
    formats = [("fp32", False), ("bf16", False), ("bf16", True)] if has_bf16 else [("fp32", False)]
    assert [(one.format, one.attention_in_fp32) for one in found[::2]] == formats
    assert {one.head_multiple for one in found} == {1, 16}
    assert len({one.name for one in found}) == len(found) == 2 * len(formats)
    assert {one.threads for one in found} == {torch.get_num_threads()}
    assert {one.device for one in found} == {"cpu"}


@pytest.mark.parametrize("fastest", range(6))
def test_the_fastest_of_real_repeats_is_chosen(monkeypatch, fastest):
    monkeypatch.setattr(module, "supports_bf16", lambda device: True)
    mixes = list(candidates(CPU))
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    calls: dict[str, int] = {}

    def make_step(mix: Precision):
        cost = 1.0 if mix == mixes[fastest] else 2.0 + mixes.index(mix)

        def step() -> None:
            calls[mix.name] = calls.get(mix.name, 0) + 1
            # The first call warms up and must not count; one disturbed repeat must not decide.
            clock[0] += 100 if calls[mix.name] == 1 else cost + (50 if calls[mix.name] == 2 else 0)

        return step

    chosen, seconds = measure_precision(CPU, make_step)
    assert chosen == mixes[fastest]
    assert seconds[chosen.name] == pytest.approx(1.0)
    assert sorted(seconds) == sorted(mix.name for mix in mixes)
    assert set(calls.values()) == {4}


def test_what_was_chosen_survives_being_written_down():
    chosen = Precision(format="bf16", attention_in_fp32=True, head_multiple=16, threads=3)
    assert load(Precision, dump(chosen)) == chosen
    assert (chosen.kernel.head_multiple, chosen.kernel.in_fp32) == (16, True)


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_context_computes_in_the_format(name, dtype):
    with Precision(format=name).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_threads_are_applied():
    Precision(threads=2).apply_threads()
    assert torch.get_num_threads() == 2


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=f"no {name} device"):
            choose_device(name)
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        choose_device("gpu")


def test_auto_prefers_the_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"

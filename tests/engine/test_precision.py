"""The fastest mix is chosen once, among the mixes that the device can do."""

import time
from dataclasses import replace

import pytest
import torch

from apatite.core.config import dump, load
from apatite.core.errors import ConfigError
from apatite.engine import precision as module
from apatite.engine.precision import Precision, candidates, carried_over, choose_device, measure_precision
from apatite.nn.linear import has_onednn

CPU = torch.device("cpu")


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("has_bf16", [True, False])
def test_candidates_on_a_cpu(monkeypatch, has_bf16, is_there):
    monkeypatch.setattr(module, "supports_bf16", lambda device: has_bf16)
    monkeypatch.setattr(module, "has_onednn", lambda: is_there)
    found = list(candidates(CPU))
    names = ["fp32, heads x1", "fp32, heads x16"]
    if has_bf16:
        names += [f"bf16{how}, heads x{multiple}" for how in ("", "+fp32 attention") for multiple in (1, 16)]
    names += (
        ["fp32, heads x16, oneDNN", "fp32, compiled attention, oneDNN"] if is_there else ["fp32, compiled attention"]
    )
    names += ["bf16, compiled attention"] if has_bf16 else []
    assert [one.name for one in found] == names
    assert {one.threads for one in found} == {torch.get_num_threads()}
    assert {one.device for one in found} == {"cpu"}


def test_a_gpu_is_not_offered_what_is_made_for_cpus(monkeypatch):
    monkeypatch.setattr(module, "supports_bf16", lambda device: True)
    found = list(candidates(torch.device("cuda")))
    assert [one.name for one in found] == [
        f"{name}, heads x{multiple}" for name in ("fp32", "bf16") for multiple in (1, 16)
    ]


@pytest.mark.parametrize("fastest", range(9))
def test_the_fastest_of_real_repeats_is_chosen(monkeypatch, fastest):
    monkeypatch.setattr(module, "supports_bf16", lambda device: True)
    monkeypatch.setattr(module, "has_onednn", lambda: True)
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
    ours = Precision(compiled_attention=True, onednn_linear=True).kernel
    assert (ours.compiled, ours.by_onednn, ours.head_multiple) == (True, True, 1)


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


def test_on_another_machine_a_run_keeps_its_formats_and_takes_what_is_there():
    began = Precision(format="bf16", head_multiple=16, compiled_attention=True, onednn_linear=True, threads=64)
    here = carried_over(began, torch.device("cpu"))
    assert here == replace(began, threads=torch.get_num_threads(), onednn_linear=has_onednn())
    there = carried_over(began, torch.device("cuda"))
    assert (there.device, there.format, there.head_multiple) == ("cuda", "bf16", 16)
    assert not there.compiled_attention
    assert not there.onednn_linear

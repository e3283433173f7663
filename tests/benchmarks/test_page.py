"""The page of benchmarks says what the committed results say."""

import json

import pytest

from page import PAGE, generate

RESULT = {
    "benchmark": "mae_step",
    "command": "python benchmarks/mae_step.py",
    "date": "2026-01-02",
    "machine": {"cpu": "A processor", "cores": 3, "memory_gib": 7.5, "system": "Linux", "python": "3.11.1"},
    "threads": 3,
    "quick": False,
    "packages": {"torch": "2.13.0"},
    "limits": {"gemm_fp32": 4.5e11, "gemm_bf16": 8.5e11, "stream": 3e10, "exps": 2e10},
    "rows": [
        {"tokens": 4608, "ms_per_sample": 12.5, "note": ""},
        {"tokens": 4608, "ms_per_sample": None, "note": "did not fit in memory"},
    ],
    "ratios": {"576_tokens_batch1": 3.25},
    "skipped": {"a peer": "not installed"},
    "facts": {},
}


def test_the_committed_page_is_what_the_results_give():
    assert PAGE.read_text() == generate(), "run: python benchmarks/page.py"


def test_a_result_becomes_a_part_of_the_page(tmp_path):
    (tmp_path / "mae_step.json").write_text(json.dumps(RESULT))
    (tmp_path / "of another kind.json").write_text("{}")
    page = generate(tmp_path)
    for words in (
        "| tokens | ms per sample | note |",
        "| 4,608 | 12.5 |  |",
        "| 4,608 |  | did not fit in memory |",
        "576_tokens_batch1 3.25",
        "Not measured: a peer: not installed.",
        "`python benchmarks/mae_step.py`; 2026-01-02; A processor, 3 cores, 7.5 GiB; 3 threads; torch 2.13.0",
        "450 GFLOP/s in fp32",
    ):
        assert words in page
    assert page.count("\n## ") == 1


def test_a_result_without_its_script_is_an_error(tmp_path):
    (tmp_path / "gone.json").write_text(json.dumps({**RESULT, "benchmark": "gone"}))
    with pytest.raises(FileNotFoundError):
        generate(tmp_path)

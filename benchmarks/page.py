"""Writes docs/benchmarks.md from the committed results: `python benchmarks/page.py`."""

import ast
import json
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_text
from harness import FOLDER, text_of

PAGE = FOLDER.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Made by `python benchmarks/page.py` from `benchmarks/results/`; do not edit. Each part says what was compared, on what
machine, and the command that makes it again. A ratio is the other side's time (or memory) over ours: above 1 ours is
better, below 1 it is worse, and both are shown. The limit fraction is how much of what the machine could do at best is
reached, after a roofline with figures measured in the same run. The other packages come with
`pip install 'apatite[bench]'`; other machines give other figures.
"""


def generate(results: Path = FOLDER / "results") -> str:
    """The whole page."""
    found = [json.loads(path.read_text()) for path in sorted(results.rglob("*.json"))]
    parts = [_part(result) for result in found if {"benchmark", "rows", "command"} <= result.keys()]
    return "\n".join([HEAD, *parts])


def _part(result: dict[str, Any]) -> str:
    about = _about(result["benchmark"])
    title, _, rest = about.partition("\n")
    lines = [f"## {title.rstrip('.')}", "", *([rest.strip(), ""] if rest.strip() else []), *_table(result["rows"])]
    if result["ratios"]:
        lines += ["", "Ratios: " + " · ".join(f"{name} {value:g}" for name, value in result["ratios"].items()) + "."]
    if result["skipped"]:
        lines += ["", *(f"Not measured: {what}: {why}." for what, why in result["skipped"].items())]
    if result["facts"]:
        lines += ["", "Also: " + " · ".join(f"{name} {value}" for name, value in result["facts"].items()) + "."]
    return "\n".join([*lines, "", _made_on(result), ""])


def _about(benchmark: str) -> str:
    """The script's own docstring; its first sentence is the title."""
    script = FOLDER / f"{benchmark}.py"
    text = ast.get_docstring(ast.parse(script.read_text())) or benchmark
    first, _, rest = text.partition("\n")
    return f"{first}\n{rest.strip()}"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row if any(one.get(name) for one in rows)))
    if not columns:
        return []
    cells = [[text_of(row.get(name)) for name in columns] for row in rows]
    lines = [[name.replace("_", " ") for name in columns], ["---"] * len(columns), *cells]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _made_on(result: dict[str, Any]) -> str:
    machine, limits = result["machine"], result["limits"]
    words = [
        f"`{result['command']}`",
        result["date"],
        f"{machine.get('device', '') or machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB",
        f"{result['threads']} threads",
        ", ".join(f"{name} {version}" for name, version in result["packages"].items()),
    ]
    if limits:
        words.append(
            f"at best {limits['gemm_fp32'] / 1e9:.0f} GFLOP/s in fp32, {limits['gemm_bf16'] / 1e9:.0f} in bf16, "
            f"{limits['stream'] / 1e9:.0f} GB/s, {limits['exps'] / 1e9:.1f} G exponentials/s"
        )
    return "; ".join(words) + "."


if __name__ == "__main__":
    commit_text(PAGE, generate())

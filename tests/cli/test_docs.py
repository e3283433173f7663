"""The documentation keeps up with the command: verbs, flags, error codes, and links that lead somewhere."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from apatite.cli.main import VERBS, run
from apatite.core.reasons import REASONS
from apatite.data.prepare import RECIPES as PREPARE
from apatite.pretrain.recipes import RECIPES as PRETRAIN
from apatite.segment.recipes import RECIPES as FINETUNE

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOT_YET: set[str] = set()
"""Targets that are allowed to be missing; none is."""
COMMON_FLAGS = {"--json", "--debug", "--help"}
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
SHORT = re.compile(r"(?<![\w-])-[a-z](?= [A-Z])")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"code=\"([A-Z0-9_]+)\"")


def section(page: str, heading: str) -> str:
    """The text below a second-level heading; empty without it."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def keys_of(config: Any) -> Iterator[str]:
    """Every key of a configuration and of its parts."""
    for field in fields(config):
        yield field.name
        part = getattr(config, field.name)
        if is_dataclass(part):
            yield from keys_of(part)


@pytest.fixture(scope="module")
def cli_page() -> str:
    return (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_the_reference_names_every_flag_and_no_other(
    verb: str, cli_page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    written = section(cli_page, verb)
    assert written, f"docs/reference/cli.md has no section {verb!r}"
    real = set(FLAG.findall(shown)) - COMMON_FLAGS
    assert real <= set(FLAG.findall(written)), "a flag is not in docs/reference/cli.md"
    assert set(FLAG.findall(written)) - COMMON_FLAGS <= real, "docs/reference/cli.md names a flag that is gone"
    assert {f"`{short}`" for short in SHORT.findall(shown)} <= set(re.findall(r"`-[a-z]`", written))


def test_the_reference_names_no_verb_that_is_gone(cli_page: str) -> None:
    headings = set(re.findall(r"^## ([\w-]+)$", cli_page, flags=re.MULTILINE))
    assert headings == set(VERBS)


@pytest.mark.parametrize("name", ["README.md", "AGENTS.md"])
def test_every_verb_is_in_the_overviews(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    missing = [verb for verb in VERBS if f"`{verb}`" not in text and f"`apatite {verb}`" not in text]
    assert missing == []


def test_every_error_code_is_explained() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    missing = sorted({code for code in CODE.findall(sources) if f"`{code}`" not in page})
    assert missing == []


@pytest.mark.parametrize("recipes", [PREPARE, PRETRAIN, FINETUNE], ids=["prepare", "pretrain", "finetune"])
def test_every_key_and_recipe_is_in_the_configuration_page(recipes: Mapping[str, Callable[[], Any]]) -> None:
    page = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    keys = {key for make in recipes.values() for key in keys_of(make())}
    assert sorted(name for name in keys | set(recipes) if not re.search(rf"\b{name}\b", page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_file():
            if file.relative_to(ROOT).as_posix() not in NOT_YET:
                broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            broken += [] if anchor in map(slug, headings) else [target]
    assert broken == []


def test_the_detectors_fire() -> None:
    assert set(FLAG.findall("│ -o PATH, --out PATH  unless --resume. (runs/a--b)")) == {"--out", "--resume"}
    assert SHORT.findall("│ -o PATH, --out PATH   a-b C") == ["-o"]
    assert section("## a\none\n## b\ntwo\n", "b") == "two\n"
    assert slug("Is it learning?") == "is-it-learning"


def test_every_reason_is_in_the_page_with_its_sentence() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    missing = [code for code, (kind, sentence) in REASONS.items() if f"| `{code}` | {kind} | {sentence} |" not in page]
    assert missing == []

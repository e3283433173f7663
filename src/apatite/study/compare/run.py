"""Compare whatever the user names, and write what was found; every look at a split is logged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apatite.core.errors import ConfigError
from apatite.core.watch import Watch, unwatched
from apatite.io.run_folder import environment
from apatite.io.store import Prepared
from apatite.report.html import Table
from apatite.report.numbers import Cell
from apatite.study.compare.comparison import compare
from apatite.study.compare.config import STANDARD, CompareConfig
from apatite.study.compare.entrants import entrants_of
from apatite.study.compare.gather import Gathered, Split, gather
from apatite.study.compare.sides import pairs_of, sides_of
from apatite.study.compare.tables import comparison_tables
from apatite.study.compare.write import comparison_json, write_comparison


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a comparison left.

    Attributes:
        values: The content of `compare.json` and the path of the page.
        tables: For the terminal.
        report: The page.
    """

    values: dict[str, Any]
    tables: Sequence[Table]
    report: Path


def compare_models(
    models: Sequence[str],
    out: Path,
    data: Path | None = None,
    split: Split = "test",
    *,
    config: CompareConfig = STANDARD,
    watch: Watch = unwatched,
) -> Compared:
    """Compare models, runs, label maps and tables of earlier evaluations on the same patients.

    Args:
        models: A path each, `name=path`, or `name=path,path,…` for trainings of one model; the first is what the others
            are compared with, and each later one is compared with all before it.
        out: Folder for the files of `study.compare.write`.
        data: Prepared folder; not needed where everybody is a table.
        split: Which labelled cases to judge on.
        config: How to compare; `burden_label` is found from the labels' names.
        watch: Shows progress.

    Raises:
        ConfigError: an argument makes no sense, or somebody has to be judged and there are no data.
        DataError: the sources are not of the same cases (`CASES_DIFFER`), or cannot be read.
        ModelError: a model cannot be opened.
    """
    entrants = entrants_of(models)
    prepared = None if data is None else Prepared.open(data)
    found = gather(entrants, prepared, out, split, watch)
    if not pairs_of(sides_of(list(found.outcomes))):
        raise ConfigError("there is only one model", where=", ".join(found.outcomes), fix="name another one beside it")
    comparison = compare(
        found.outcomes,
        replace(config, burden_label=found.burden_label),
        label_names=found.label_names,
        deployed=found.deployed,
        watch=watch,
    )
    domains = sorted(found.domains)
    report = write_comparison(
        comparison,
        out,
        provenance=_provenance(found, prepared, split),
        domains=domains,
        deployed=found.deployed,
    )
    values = {"report": str(report), **comparison_json(comparison, domains=domains, deployed=found.deployed)}
    return Compared(values=values, tables=comparison_tables(comparison), report=report)


def _provenance(found: Gathered, prepared: Prepared | None, split: Split) -> dict[str, Cell]:
    versions = environment()
    data = {} if prepared is None else {"split": split, "data": str(prepared.about["manifest_sha256"])[:16]}
    return {
        **data,
        "python": str(versions["python"]),
        "machine": str(versions["platform"]),
        **{f"from {title}": f"{found.origins[title]} ({digest[:16]})" for title, digest in found.digests.items()},
    }

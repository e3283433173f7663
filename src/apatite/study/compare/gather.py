"""The outcomes of everybody who is to be compared: judged now on prepared data, or read from an earlier evaluation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from apatite.calibrate.readings import calcium_label
from apatite.core.errors import ConfigError
from apatite.core.watch import Watch, unwatched
from apatite.io.store import Prepared
from apatite.study.compare.earlier import Frozen, read_earlier, table_of
from apatite.study.compare.entrants import Entrant
from apatite.study.compare.sides import base_name
from apatite.study.contestants import Contestant, contestant_names, open_contestant
from apatite.study.judge import judge
from apatite.study.label_maps import LabelMaps
from apatite.study.outcomes import CaseOutcome
from apatite.study.run import deployed_of, labelled_cases, log_look

Split = Literal["development", "test"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """Everybody's outcomes.

    Attributes:
        outcomes: Title → rows.
        deployed: Title → HU gate → frozen cut-points.
        label_names: Label value → name; empty where no source says.
        digests: Title → what names the weights, maps or table it came from.
        domains: Where the data come from.
        origins: Title → what it was read from, in words.
    """

    outcomes: dict[str, Sequence[CaseOutcome]] = field(default_factory=dict)
    deployed: Frozen = field(default_factory=dict)
    label_names: dict[int, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, outcomes: Mapping[str, Sequence[CaseOutcome]], deployed: Frozen, digest: str, origin: str) -> None:
        """Take in what one source holds.

        Raises:
            ConfigError: one of its titles is taken.
        """
        for title in outcomes:
            if title in self.outcomes:
                raise ConfigError(f"two models are called {title!r}", where=origin, fix="name them: NAME=PATH")
            self.origins[title] = origin
        self.outcomes.update(outcomes)
        self.deployed.update({title: cuts for title, cuts in deployed.items() if title in outcomes})
        self.digests[next(iter(outcomes))] = digest

    def add_names(self, names: Mapping[int, str], where: str) -> None:
        """Take in what labels are called.

        Raises:
            ConfigError: a label has another name elsewhere.
        """
        for label, name in names.items():
            if self.label_names.setdefault(label, name) != name:
                raise ConfigError(
                    f"label {label} is {name!r} here and {self.label_names[label]!r} elsewhere",
                    where=where,
                    fix="compare models of the same labels",
                )

    @property
    def burden_label(self) -> int | None:
        """The label that has burden groups: calcium or, where no source names labels, the only one that is gated."""
        if self.label_names:
            return calcium_label(self.label_names)
        labels = {o.label for rows in self.outcomes.values() for o in rows}
        is_gated = any(o.hu_gate is not None for rows in self.outcomes.values() for o in rows)
        return labels.pop() if len(labels) == 1 and is_gated else None


def gather(
    entrants: Sequence[Entrant], prepared: Prepared | None, out: Path, split: Split, watch: Watch = unwatched
) -> Gathered:
    """Judge or read everybody, in the order given.

    Args:
        entrants: Who.
        prepared: The data to judge on; not needed where all outcomes are read.
        out: Folder of the comparison; a look at a split is written down there and beside each model.
        split: Which labelled cases to judge on.
        watch: Shows progress.

    Raises:
        ConfigError: somebody has to be judged and there are no data; other labels; a name that is taken.
        DataError: a source cannot be read; its place is named.
        ModelError: a model cannot be opened.
    """
    found = Gathered()
    named = [(path, entrant.title(number)) for entrant in entrants for number, path in enumerate(entrant.paths)]
    _refuse_same_names(named)
    # All are opened before anybody looks at the split: a mistake in the last name must not cost a look.
    opened = [_opened(path, title, prepared) for path, title in named]
    for (path, title), source in zip(named, opened, strict=True):
        if isinstance(source, Contestant):
            _judge(found, source, _given(prepared, path), out, split, watch)
        else:
            _read(found, source, title)
    return found


def _opened(path: Path, title: str, prepared: Prepared | None) -> Contestant | Path:
    """A contestant, or the table of an earlier evaluation."""
    table = table_of(path)
    return open_on(path, title or contestant_names([path])[0], prepared) if table is None else table


def _refuse_same_names(named: Sequence[tuple[Path, str]]) -> None:
    """Before hours are spent on judging the first of two."""
    names = [title or contestant_names([path])[0] for path, title in named if title or table_of(path) is None]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"two models are called {twice[0]!r}", fix="name them: NAME=PATH")


def open_on(path: Path, name: str, prepared: Prepared | None) -> Contestant:
    """Open a contestant for some data.

    Raises:
        ConfigError: there are no data, or other labels.
        ModelError, DataError: it cannot be opened.
    """
    prepared = _given(prepared, path)
    found = open_contestant(path, name)
    if isinstance(found.predictor, LabelMaps):
        found = replace(found, predictor=found.predictor.on(prepared), label_names=prepared.manifest.label_names)
    found.refuse_other_labels(prepared)
    return found


def _given(prepared: Prepared | None, path: Path) -> Prepared:
    if prepared is None:
        raise ConfigError(
            "is no table of outcomes, so it has to be judged on data", where=str(path), fix="name prepared data with -d"
        )
    return prepared


def _judge(found: Gathered, contestant: Contestant, prepared: Prepared, out: Path, split: Split, watch: Watch) -> None:
    cases = labelled_cases(prepared, split)
    log_look(contestant.folder, out, split, f"{contestant.name} {contestant.digest}")
    names = prepared.manifest.label_names
    outcomes = judge(contestant.name, contestant.predictor, contestant.calibration, prepared.manifest, cases, watch)
    frozen = deployed_of(contestant.name, contestant.calibration)
    found.add(outcomes, frozen, contestant.digest, str(contestant.folder))
    found.add_names(names, str(contestant.folder))
    found.domains.update(case.domain for case in cases)


def _read(found: Gathered, table: Path, title: str) -> None:
    earlier = read_earlier(table)
    rename = {name: name for name in earlier.outcomes}
    if title:
        bases = {base_name(name) for name in earlier.outcomes}
        if len(bases) > 1:
            raise ConfigError(
                f"holds {len(bases)} models, {', '.join(sorted(bases))}; one name does not fit them",
                where=str(table),
                fix="give it without a name",
            )
        rename = {name: name.replace(base_name(name), title, 1) for name in earlier.outcomes}
    outcomes = {rename[name]: rows for name, rows in earlier.outcomes.items()}
    deployed = {rename[name]: cuts for name, cuts in earlier.deployed.items() if name in rename}
    found.add(outcomes, deployed, hashlib.sha256(table.read_bytes()).hexdigest(), str(table))
    found.add_names(earlier.label_names, str(table))
    found.domains.update(earlier.domains)

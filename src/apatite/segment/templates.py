"""Which template a head is registered to: those that a user names, or the package's own procedural head.

No template is shipped or fetched. The procedural head stands in where none is named, and is the poorer target: how much
worse is measured in docs/explanation/localisation.md.
"""

from collections.abc import Sequence
from pathlib import Path

from apatite.core.errors import ConfigError
from apatite.ct.template import AGE_CUT_YEARS, Template, read_template
from apatite.phantom.head import procedural_template

PROCEDURAL = "procedural"


def templates_of(paths: Sequence[Path]) -> tuple[Template, ...]:
    """The templates of the given files, or the procedural head where there are none.

    Args:
        paths: One for all ages, or two: below 72.5 years and from there on, as in Jin et al. 2024.

    Raises:
        ConfigError: more than two.
        DataError: a file is no head-CT template.
    """
    if not paths:
        return (Template(name=PROCEDURAL, volume=procedural_template()),)
    if len(paths) == 1:
        return (read_template(paths[0]),)
    if len(paths) == 2:
        younger = read_template(paths[0], age_to_years=AGE_CUT_YEARS)
        return younger, read_template(paths[1], age_from_years=AGE_CUT_YEARS)
    raise ConfigError(
        f"{len(paths)} templates, but there are two ranges of age", fix="give one, or a younger and an older one"
    )

"""The verb `quality`: pictures on which a person checks a batch of registered heads in a minute."""

from dataclasses import dataclass

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, OutputPath, PreparedPath

MOST_NAMES = 20


@dataclass(frozen=True, kw_only=True)
class Quality(CommonFlags):
    """Draw the sum of all registered heads, sheets of 200 heads each, and the flow from scans to cases.

    Example: apatite quality -d study/prepared -o study/quality
    """

    data: PreparedPath
    """Prepared folder whose regions were found by registration. The pictures show its patients."""
    out: OutputPath
    """Folder for superposition.png, sheet-01.png and more, flow.svg, flow.html."""

    def run(self) -> Outcome:
        """Draw everything."""
        from apatite.study.quality_pictures import draw_quality

        made = draw_quality(self.data, self.out, bar)
        kept = made.flow.kept
        values = {
            "files": [str(path) for path in made.files],
            "look_at": made.look_at,
            "series": kept[0],
            "kept": kept[-1],
        }
        named = ", ".join(made.look_at[:MOST_NAMES]) + (", ..." if len(made.look_at) > MOST_NAMES else "")
        lines = [
            f"{kept[-1]} of {kept[0]} series became cases; {len(made.look_at)} of them to look at: {named or 'none'}"
        ]
        lines += [f"wrote {path}" for path in made.files]
        lines.append("reject cases in a table for `apatite prepare --decisions`: case_id,decision,reason,who,when")
        return Outcome(values=values, lines=lines)

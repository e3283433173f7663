"""The verb `inspect`: what a model package is, wants and has seen; refuses one that was altered."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apatite.cli.console import Outcome
from apatite.cli.flags import CommonFlags, ModelPath

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Inspect(CommonFlags):
    """Show the card of a model package, after checking that nothing in it was altered.

    Example: apatite inspect -m runs/a/model
    """

    model: ModelPath
    """Folder with model.json, weights.safetensors and MANIFEST.sha256."""

    def run(self) -> Outcome:
        """Check the seal, then show the card. The network is not built."""
        from rich.text import Text

        from apatite.io.model_card import values_of_card
        from apatite.io.model_package import read_summary

        summary = read_summary(self.model)
        card = values_of_card(summary.card)
        values: dict[str, Any] = {
            "package": str(self.model),
            "digest": summary.digest,
            "num_tensors": len(summary.header.tensors),
            "num_parameters": summary.num_parameters,
            "card": card,
        }
        return Outcome(values=values, lines=[_table(values), Text(card["provenance"]["use"], style="bold")])


def _table(values: dict[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    card = values["card"]
    table = Table(title=Text(f"{card['kind']} {values['package']}"), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    rows: list[tuple[str, Any]] = [
        ("digest", f"{values['digest']} (unaltered)"),
        ("weights", f"{values['num_parameters']:,} numbers in {values['num_tensors']} tensors"),
        ("recipe", card["recipe"]),
        ("labels", ", ".join(f"{value} {name}" for value, name in card["label_names"].items()) or "none"),
        *((f"domains of {stage} data", ", ".join(domains) or "none") for stage, domains in card["domains"].items()),
        *((f"input: {key}", value) for key, value in card["input"].items()),
        *((f"architecture: {key}", value) for key, value in card["architecture"].items()),
        *_optional("calibration", card["calibration"], "none: volumes are uncalibrated"),
        *_optional("burden groups", card["burden"], "none"),
        ("held out of training", ", ".join(card["held_out"]) or "nothing"),
        *_optional("validated", card["validated"], "none: no range was measured"),
        *((key, value) for key, value in card["provenance"].items() if key != "use"),
    ]
    for name, value in rows:
        # Text is shown as it is: a card may hold what would be taken for markup.
        table.add_row(Text(str(name)), Text(str(value) or "not stated"))
    return table


def _optional(name: str, values: dict[str, Any] | None, without: str) -> list[tuple[str, Any]]:
    if values is None:
        return [(name, without)]
    return [(f"{name}: {key}", value) for key, value in values.items()]

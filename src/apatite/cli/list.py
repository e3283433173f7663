"""The verb `list`: what can be named in other verbs."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from apatite.cli.console import Outcome
from apatite.cli.flags import CommonFlags


@dataclass(frozen=True, kw_only=True)
class List(CommonFlags):
    """List methods, models, networks, decoders, layouts or recipes by name.

    Example: apatite list recipes
    """

    what: Positional[Literal["methods", "models", "networks", "decoders", "layouts", "recipes"]]
    """What to list."""

    def run(self) -> Outcome:
        """Read the registries."""
        entries = getattr(self, f"_{self.what}")()
        width = max(map(len, entries))
        return Outcome(
            values={self.what: entries}, lines=[f"{name:<{width}}  {text}" for name, text in entries.items()]
        )

    def _methods(self) -> dict[str, str]:
        from apatite.pretrain.methods import METHODS

        return {name: method.summary for name, method in METHODS.items()}

    def _models(self) -> dict[str, str]:
        from apatite.nn.models import MODELS

        return {name: size.summary for name, size in MODELS.items()}

    def _networks(self) -> dict[str, str]:
        from apatite.segment.networks import NETWORKS

        return {name: network.note for name, network in NETWORKS.items()}

    def _decoders(self) -> dict[str, str]:
        from apatite.nn.decoders.registry import DECODERS

        return {name: (build.__doc__ or "").strip() for name, build in DECODERS.items()}

    def _layouts(self) -> dict[str, str]:
        from apatite.io.layouts import LAYOUTS, PUBLISHED
        from apatite.segment.foreign_layouts import LAYOUTS as FOREIGN

        titles = {name: split.title for name, split in PUBLISHED.items()}
        read = {
            f"index --layout {name}": titles.get(name) or (read.__doc__ or "").strip().split("\n")[0]
            for name, read in LAYOUTS.items()
        }
        return read | {f"convert --layout {name}": layout.note for name, layout in FOREIGN.items()}

    def _recipes(self) -> dict[str, str]:
        from apatite.data.prepare import RECIPES as PREPARE
        from apatite.pretrain.recipes import RECIPES as PRETRAIN
        from apatite.segment.recipes import RECIPES as FINETUNE

        tables = {"prepare": PREPARE, "pretrain": PRETRAIN, "finetune": FINETUNE}
        return {
            f"{verb} --recipe {name}": (recipe.__doc__ or "").strip().split("\n")[0]
            for verb, table in tables.items()
            for name, recipe in table.items()
        }

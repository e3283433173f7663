"""What a row is started with is written down first, so that its run is never gone on with as something else."""

from typing import Any

from apatite.core.commit import commit_json
from apatite.core.errors import ConfigError
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.study.sweep.folder import SweepFolder, read_json
from apatite.study.sweep.record import with_later_axes
from apatite.study.sweep.rows import SweepRow
from apatite.study.sweep.settings import settings_digest


def settle_plan(folder: SweepFolder, row: SweepRow, config: Any, prepared: Prepared) -> str:
    """Write down what a row is started with, and refuse a run that was started with something else.

    Returns:
        The digest of its settings.

    Raises:
        ConfigError: it was.
    """
    digest = settings_digest(config)
    plan = {"axes": dict(row.axes), "settings": digest, "data": str(prepared.about["manifest_sha256"])}
    began = read_json(folder.plan(row.name))
    if began:
        began["axes"] = with_later_axes(began["axes"], row.kind)
    if began and began != plan and RunFolder(path=folder.run(row.name)).config.exists():
        raise ConfigError(
            "was begun with other settings or data under the same name",
            where=row.name,
            fix="give the block that changed a name of its own, or name a new folder with -o",
        )
    commit_json(folder.plan(row.name), plan)
    return digest

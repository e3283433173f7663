"""Several processes share the cases of a batch: each case is claimed by one of them, and a dead one's is reclaimed.

A process that works on a batch holds one lease, which it keeps fresh (`batch.lease`). A claim is a small file that
names that lease. Claims of a case are numbered; the highest counts. Whoever finds that the lease of the highest claim
was left behind makes the next number, which only one process can: a claim is never replaced, so nobody can take away
what another one was just given.

A process that was silent for too long may find its case computed twice. The result is the same, and one of the two is
committed.
"""

from dataclasses import dataclass
from pathlib import Path

from apatite.batch.lease import is_held
from apatite.batch.rows import RESULT
from apatite.core.commit import commit_once, sweep

OWNERS, CASES = "owners", "cases"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The work folder of a batch, as one of its processes sees it.

    Attributes:
        folder: The work folder.
        owner: Name of this process's lease.
    """

    folder: Path
    owner: str

    def lease_folder(self, owner: str = "") -> Path:
        """Where the lease of an owner lies; of this process without a name."""
        return self.folder / OWNERS / (owner or self.owner)

    def result(self, name: str) -> Path:
        """Where the result of a case will lie."""
        return self.folder / CASES / name / RESULT

    def claim(self, name: str) -> bool:
        """Claim a case, and remove what a dead process left of it.

        Returns:
            False where another living process has it.
        """
        number = 0
        while (path := self._path(name, number)).exists():
            number += 1
        if number and self._is_alive(self._path(name, number - 1)):
            return False
        if not commit_once(path, self.owner):
            return False
        if number:
            self.sweep(name)
        return True

    def is_ours(self, name: str) -> bool:
        """Whether the highest claim of a case names this process."""
        number = 0
        while self._path(name, number + 1).exists():
            number += 1
        return _read(self._path(name, number)) == self.owner

    def sweep(self, name: str) -> None:
        """Remove unfinished files of a case that nobody works on now."""
        sweep(self.folder / CASES / name)

    def release(self, name: str) -> None:
        """Give a case back; once its result lies there, nobody claims it again."""
        # The lowest first: another process that looks meanwhile finds the highest, or none at all.
        number = 0
        while (path := self._path(name, number)).exists():
            path.unlink(missing_ok=True)
            number += 1

    def _path(self, name: str, number: int) -> Path:
        return self.folder / CASES / name / f"claim.{number}"

    def _is_alive(self, path: Path) -> bool:
        owner = _read(path)
        return bool(owner) and is_held(self.lease_folder(owner))


def others(folder: Path, owner: str = "") -> list[Path]:
    """The lease folders of other living processes of a batch."""
    return [path for path in sorted((folder / OWNERS).glob("*")) if path.name != owner and is_held(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""

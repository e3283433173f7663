"""How the child process says, from wherever it is in a file, that the file cannot be used."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Item:
    """Data elements of one level: bytes of the values, how they are stored, and items of the sequences, by tag."""

    values: dict[int, bytes] = field(default_factory=dict)
    types: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, list["Item"]] = field(default_factory=dict)


class RefusedError(Exception):
    """A file cannot be used.

    Args:
        code: One of `reasons.REASONS`.
        what: A sentence without any value of the file.
        tag: The keyword it concerns.

    Attributes:
        top: What had been read of the file until then.
    """

    def __init__(self, code: str, what: str, tag: str = "") -> None:
        super().__init__(code)
        self.code, self.what, self.tag = code, what, tag
        self.top = Item()

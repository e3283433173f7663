"""What a pickle would call, listed without running any of it.

A pickle is a program for a small machine, and `GLOBAL` is its instruction that names something of Python to be called.
So whoever knows every `GLOBAL` of a pickle knows all it can reach. The list of those that belong to tensors is short.
A few more stand beside the tensors in published training states (the arguments of a command, a score as a NumPy
number); they are read as `Inert`, which keeps nothing and does nothing. All else is refused by name.

Source: the instructions as the standard library's `pickletools` describes them; iBOT's training states for what stands
beside the tensors (bytedance/ibot, commit da316d8, `main_ibot.py`).
"""

import io
import pickletools
from typing import Final

from apatite.core.errors import ModelError
from apatite.engine.foreign_zip import SAVE_AGAIN

_TYPES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
TENSOR_NAMES: Final = frozenset(
    {
        "collections OrderedDict",
        "collections Counter",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch Size",
        "torch device",
        # The bytes of a NumPy number, which is inert.
        "_codecs encode",
        *(f"torch {name}Storage" for name in _TYPES),
    }
)
INERT_NAMES: Final = frozenset(
    {
        "argparse Namespace",
        "numpy dtype",
        "numpy ndarray",
        "numpy.core.multiarray scalar",
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray scalar",
        "numpy._core.multiarray _reconstruct",
        "pathlib PosixPath",
    }
)
"""Read as `Inert`: their own code is never called, and nothing is kept of them."""
_NEVER_WRITTEN = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "PERSID", "NEXT_BUFFER"}
"""Other ways to name or to make something; torch.save uses none."""
_PROTOCOL = 2
_SHOWN = 3


class Inert:
    """Stands in for whatever is no tensor; forgets all it is given."""

    def __new__(cls, *_: object) -> "Inert":
        """Made from anything."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        return

    def __setstate__(self, _: object) -> None:
        """Given a state, keeps none of it."""


def refuse_code(content: bytes, where: str) -> None:
    """Refuse a pickle that names anything but tensors and a few harmless things.

    Args:
        content: The pickle.
        where: The file, for messages.

    Raises:
        ModelError: something else is named (`FOREIGN_CODE`), or the pickle is damaged or written in another way than
            torch.save's (`NOT_WEIGHTS`).
    """
    foreign = sorted(_named(content, where) - TENSOR_NAMES - INERT_NAMES)
    if foreign:
        shown = ", ".join(ascii(name.replace(" ", ".", 1)[:80])[1:-1] for name in foreign[:_SHOWN])
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise ModelError(
            f"names {shown}{more}: code or objects of another program; nothing of it was run",
            where=where,
            fix="open it nowhere unless you trust its maker, who can give you the tensors alone, as safetensors",
            code="FOREIGN_CODE",
        )


def _named(content: bytes, where: str) -> set[str]:
    """What a pickle names, as `module name`."""
    named, stream = set(), io.BytesIO(content)
    try:
        for instruction, argument, _ in pickletools.genops(stream):
            if instruction.name == "GLOBAL":
                named.add(str(argument))
            if instruction.name in _NEVER_WRITTEN or (instruction.name == "PROTO" and argument != _PROTOCOL):
                raise _odd(f"holds a pickle that torch.save did not write ({instruction.name})", where)
    except (ValueError, EOFError) as error:
        raise _odd("holds a pickle that is damaged", where) from error
    if stream.tell() != len(content):
        raise _odd("holds a pickle that goes on after its end", where)
    return named


def _odd(what: str, where: str) -> ModelError:
    return ModelError(f"{what}; nothing of it was run", where=where, fix=SAVE_AGAIN, code="NOT_WEIGHTS")

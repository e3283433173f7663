"""What a process takes on itself before it reads a file that may be hostile: limits, and an end to all acts.

Source: Python's table of audit events (docs.python.org/3/library/audit_events.html).
"""

import os
import resource
from pathlib import Path
from typing import Any, Final

TRIED_TO_ACT: Final = 71
"""Exit code of a process whose file tried to act."""
_ACTS: Final = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "os.putenv", "os.startfile"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("subprocess.", "pty.", "socket.", "ctypes.dlopen", "shutil.", "pickle.find_class", "code.__new__"),
    *("urllib.", "http.", "ftplib.", "smtplib.", "winreg."),
)
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def end_where_it_acts(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, which nothing can take away again; it ends the process, for an error would only be caught."""
    flags = arguments[2] if event == "open" and len(arguments) > 2 else 0
    if event.startswith(_ACTS) or (isinstance(flags, int) and flags & _WRITES):
        os._exit(TRIED_TO_ACT)


def take_limits(cpu_s: int, memory_bytes: int) -> None:
    """Let this process use no more than so much from now on, and write nothing.

    Args:
        cpu_s: Further CPU seconds; the system counts whole ones.
        memory_bytes: Further address space; what the libraries took stays.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + cpu_s, hard))
    statm = Path("/proc/self/statm")
    if statm.exists():
        # Elsewhere the address space cannot be limited.
        most = int(statm.read_text().split()[0]) * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

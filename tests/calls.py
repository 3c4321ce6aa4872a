"""Every call by which a tree of processes changes files, seen before it happens: let through, failed, or made the
moment of death.

With seccomp's user notification (Linux 5.5), so it needs no program and no privilege, sees threads and children, and
stops nothing that it does not look at.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Call(NamedTuple):
    """One that changes files: which arguments hold a descriptor, the folder that a path starts from, the path, and
    flags without which it changes nothing; None where it has none.
    """

    name: str
    descriptor: int | None = None
    folder: int | None = None
    path: int | None = None
    flags: int | None = None


WRITE, PWRITE, WRITEV, PWRITEV = (Call(name, 0) for name in ("write", "pwrite64", "writev", "pwritev"))
FSYNC, FDATASYNC, FTRUNCATE, FALLOCATE = (Call(name, 0) for name in ("fsync", "fdatasync", "ftruncate", "fallocate"))
SENDFILE, COPY = Call("sendfile", 0), Call("copy_file_range", 2)
OPENAT, MKDIRAT, UNLINKAT = Call("openat", None, 0, 1, 2), Call("mkdirat", None, 0, 1), Call("unlinkat", None, 0, 1)
RENAMEAT, RENAMEAT2 = Call("renameat", None, 2, 3), Call("renameat2", None, 2, 3)
LINKAT, SYMLINKAT = Call("linkat", None, 2, 3), Call("symlinkat", None, 1, 2)
CALLS = {
    "x86_64": {
        1: WRITE, 18: PWRITE, 20: WRITEV, 296: PWRITEV, 74: FSYNC, 75: FDATASYNC, 77: FTRUNCATE, 285: FALLOCATE,
        40: SENDFILE, 326: COPY, 257: OPENAT, 258: MKDIRAT, 263: UNLINKAT, 264: RENAMEAT, 316: RENAMEAT2,
        265: LINKAT, 266: SYMLINKAT, 2: Call("open", None, None, 0, 1), 82: Call("rename", None, None, 1),
        83: Call("mkdir", None, None, 0), 84: Call("rmdir", None, None, 0), 86: Call("link", None, None, 1),
        87: Call("unlink", None, None, 0), 88: Call("symlink", None, None, 1),
    },
    "aarch64": {
        64: WRITE, 68: PWRITE, 66: WRITEV, 70: PWRITEV, 82: FSYNC, 83: FDATASYNC, 46: FTRUNCATE, 47: FALLOCATE,
        71: SENDFILE, 285: COPY, 56: OPENAT, 34: MKDIRAT, 35: UNLINKAT, 38: RENAMEAT, 276: RENAMEAT2,
        37: LINKAT, 36: SYMLINKAT,
    },
}  # fmt: skip
"""By machine and number."""
SECCOMP = {"x86_64": (317, 0xC000003E), "aarch64": (277, 0xC00000B7)}
"""The number of the call itself, and the machine as the kernel names it."""
CHANGING = os.O_CREAT | os.O_TRUNC
ALLOW, NOTIFY, NEW_LISTENER = 0x7FFF0000, 0x7FC00000, 8
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
RECEIVE, SEND, CONTINUE = 0xC0502100, 0xC0182101, 1
NO_NEW_PRIVILEGES = 38
NOTICE = struct.Struct("QIIiIQ6Q")
ANSWER = struct.Struct("QqiI")
LONGEST_PATH = 4096


def listen() -> int:
    """From now on the calls of this process and of all that it begins ask at this descriptor first."""
    libc, machine = ctypes.CDLL(None, use_errno=True), platform.machine()
    code = _filter(machine)
    instructions = b"".join(struct.pack("HBBI", *one) for one in code)
    content = ctypes.create_string_buffer(instructions)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(content)))
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    descriptor: int = libc.syscall(SECCOMP[machine][0], 1, NEW_LISTENER, program)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return descriptor


def _filter(machine: str) -> list[tuple[int, int, int, int]]:
    """Classic BPF: code, jump if so, jump if not, value."""
    code = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, SECCOMP[machine][1]), (RETURN, 0, 0, ALLOW)]
    for number, call in CALLS[machine].items():
        asks = [(RETURN, 0, 0, NOTIFY)]
        if call.flags is not None:
            flags = [(LOAD, 0, 0, 16 + 8 * call.flags), (AND, 0, 0, CHANGING), (EQUAL, 0, 1, 0)]
            asks = [*flags, (RETURN, 0, 0, ALLOW), *asks]
        code += [(LOAD, 0, 0, 0), (EQUAL, 0, len(asks), number), *asks]
    return [*code, (RETURN, 0, 0, ALLOW)]


class Calls:
    """What asks at ``listener``. ``is_ours`` says of a path whether changes of it count.

    ``seen`` are the points since ``arm``, name and path of each: the calls, but with ``is_terse`` not those that repeat
    the one before on the same file. Between two of them nothing else was changed.
    """

    def __init__(self, listener: int, is_ours: Callable[[str], bool], *, is_terse: bool) -> None:
        self.seen: list[tuple[str, str]] = []
        self.at: tuple[str, str] | None = None
        """The call that was broken."""
        self._listener, self._is_ours, self._is_terse = listener, is_ours, is_terse
        self._point, self._fault, self._victims, self._end = 0, 0, (), signal.SIGKILL
        self._is_armed = self._is_over = False
        self._deciding = threading.Lock()
        self._sick: dict[str, int] = {}
        self._thread = threading.Thread(target=self._answer_all, daemon=True)
        self._thread.start()

    def arm(self, point: int, fault: int, victims: Sequence[int], end: signal.Signals = signal.SIGKILL) -> None:
        """Counts from now on. The ``point``-th call, from 1, is answered with the error ``fault``, or where that is 0
        ends those processes and its caller by ``end`` before it is done; who is stopped by it makes the call when it
        goes on.
        """
        with self._deciding:
            self._point, self._fault, self._victims, self._end = point, fault, tuple(victims), end
            self.seen, self.at = [], None
            self._is_armed = True

    def disarm(self) -> None:
        """None is broken from now on; ``at`` and ``seen`` stay as they are."""
        with self._deciding:
            self._is_armed = False

    def fail(self, **errors: int) -> None:
        """From now on every call of these names fails with its error; the others, and without any all, are done."""
        self._sick = errors

    def close(self) -> None:
        """Who still asks afterwards is told that there is no such call."""
        self._is_over = True
        self._thread.join()
        os.close(self._listener)

    def _answer_all(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        while not self._is_over:
            for _, events in poller.poll(20):
                if events & select.POLLIN:
                    self._answer_one()
                elif events & select.POLLHUP:  # the last of them is gone
                    return

    def _answer_one(self) -> None:
        notice = bytearray(NOTICE.size)
        try:
            fcntl.ioctl(self._listener, RECEIVE, notice)
        except OSError:  # who asked is gone
            return
        asked, process, _, number, _, _, *arguments = NOTICE.unpack(notice)
        with self._deciding:
            fault = self._fault_of(process, CALLS[platform.machine()][number], arguments)
        if fault is None:
            return
        answer = ANSWER.pack(asked, 0, -fault, 0 if fault else CONTINUE)
        with suppress(OSError):  # it was interrupted, and asks again
            fcntl.ioctl(self._listener, SEND, bytearray(answer))

    def _fault_of(self, process: int, call: Call, arguments: Sequence[int]) -> int | None:
        """The error to answer with, 0 for none; None where who asked is dead."""
        if not self._is_armed and call.name not in self._sick:
            return 0
        path = _path_of(process, call, arguments)
        if path is None or not self._is_ours(path):
            return 0
        if call.name in self._sick:
            return self._sick[call.name]
        if self._is_terse and self.seen[-1:] == [(call.name, path)]:
            return 0
        self.seen.append((call.name, path))
        if len(self.seen) != self._point:
            return 0
        self.at = self.seen[-1]
        if self._fault:
            return self._fault
        for victim in (*self._victims, process):
            with suppress(ProcessLookupError):
                os.kill(victim, self._end)
        return None


def _path_of(process: int, call: Call, arguments: Sequence[int]) -> str | None:
    """What the call changes, as the caller names it."""
    try:
        if call.descriptor is not None:
            return str(Path(f"/proc/{process}/fd/{arguments[call.descriptor] & 0xFFFFFFFF}").readlink())
        assert call.path is not None
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            name = os.fsdecode(_text_at(memory.fileno(), arguments[call.path]))
        if name.startswith("/"):
            return name
        folder = -100 if call.folder is None else ctypes.c_int(arguments[call.folder] & 0xFFFFFFFF).value
        start = "cwd" if folder == -100 else f"fd/{folder}"
        return str(Path(f"/proc/{process}/{start}").readlink() / name)
    except OSError as gone:
        if gone.errno in (errno.ENOENT, errno.ESRCH, errno.EIO, errno.EBADF):
            return None
        raise


def _text_at(memory: int, address: int) -> bytes:
    """The text that ends with a zero; in pieces that end where a page does, for the next one may be nobody's."""
    text = b""
    while len(text) < LONGEST_PATH:
        piece = os.pread(memory, LONGEST_PATH - (address + len(text)) % LONGEST_PATH, address + len(text))
        head, zero, _ = piece.partition(b"\0")
        text += head
        if zero or not piece:
            break
    return text

"""Makes system calls one by one and tells what became of each; runs inside a container, by itself.

Usage: call_by_call.py CALLS, a JSON list of [NUMBER, ARGUMENT...]. Prints a JSON list of outcomes: an errno, 0 where
the call succeeded, "ended" where it ended the process, "signal N" where that did. Each call is made by a child of its
own, which a timer ends: what blocks was let through.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import sys

SECONDS = 2
# On x86-64 also through the 32-bit entry, as [-NUMBER]: mov eax, NUMBER; int 0x80; ret.
_ENTRY32 = b"\xb8%b\xcd\x80\xc3"


def _call(number: int, arguments: list[int]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments))
    return 0 if result != -1 else ctypes.get_errno()


def _call32(number: int) -> int:
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_ENTRY32 % number.to_bytes(4, "little"))
    entry = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    result = int(entry())
    return 0 if result >= 0 else -result


def outcome(number: int, *arguments: int) -> int | str:
    """Make one call in a child, and return what became of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(SECONDS)
        code = _call32(-number) if number < 0 else _call(number, list(arguments))
        # A call that forks comes here twice, and one that closes everything with nothing to write to.
        try:
            os.write(writing, f"{code} ".encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading) as report:
        codes = report.read().split()
    _, status = os.waitpid(child, 0)
    if codes:
        return int(codes[0])
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended"


if __name__ == "__main__":
    print(json.dumps([outcome(*call) for call in json.loads(sys.argv[1])]))

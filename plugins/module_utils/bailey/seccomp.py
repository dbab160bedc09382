"""The system call filter of every instance, in the engine's own format.

What is not listed fails with EPERM. It is a part of the engines' own default, which leaves out mounting, kernel
modules, clocks, namespaces, keys, BPF and performance counters. What it takes away beyond that a hosted app does
without, io_uring and other processes' memory above all: docs/seccomp.md has each with its reason.

One thing it does that no engine's default does: it refuses the ioctl requests by which an ordinary user
leaves his disk quota, namely making a btrfs subvolume inside his directory (a quota group of its own, without
a limit) and changing an XFS project id. ioctl(2)'s request holds its family in bits 8 to 15. It also refuses to push
input into a terminal: who attaches to one, an operator say, would type what a tenant wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

_EPERM, _ENOSYS = 1, 38
_NATIVE = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")

# fmt: off
_ALLOWED = (
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "capget", "capset", "chdir",
    "chmod", "chown", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "close_range", "connect",
    "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat",
    "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchown", "fchownat", "fcntl",
    "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync",
    "ftruncate", "futex", "futex_waitv", "futimesat", "get_robust_list", "getcpu", "getcwd",
    "getdents", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getitimer", "getpeername", "getpgid",
    "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit", "getrusage",
    "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getxattr", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
    "io_setup", "io_submit", "ioprio_get", "ioprio_set", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lgetxattr", "link", "linkat", "listen", "listxattr", "llistxattr",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "madvise", "membarrier", "memfd_create", "mincore", "mkdir",
    "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mq_getsetattr", "mq_notify",
    "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "mremap", "msgctl", "msgget", "msgrcv", "msgsnd",
    "msync", "munlock", "munlockall", "munmap", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause",
    "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll",
    "prctl", "pread64", "preadv", "preadv2", "pselect6", "pwrite64", "pwritev", "pwritev2", "read",
    "readahead", "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg", "recvmsg",
    "removexattr", "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr",
    "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
    "semtimedop", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
    "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer", "setpgid", "setpriority",
    "setregid", "setresgid", "setresuid", "setreuid", "setrlimit", "setsid", "setsockopt", "setuid", "setxattr",
    "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "socketpair", "splice",
    "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee",
    "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime",
    "timerfd_create", "timerfd_gettime", "timerfd_settime", "times", "tkill", "truncate", "umask", "uname", "unlink",
    "unlinkat", "utime", "utimensat", "utimes", "vfork", "vmsplice", "wait4", "waitid", "write", "writev",
)
# fmt: on

_COUNTED_BY_USER = frozenset(("inotify_init", "inotify_init1"))  # fs.inotify.max_user_instances
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET, include/uapi/linux/sched.h.
_NAMESPACE_FLAGS = 0x7E020000
# PER_LINUX, PER_LINUX32 and UNAME26 with either, and the query that changes nothing.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK; not the kernel's crypto, virtual machines' or raw packet sockets.
_SOCKET_FAMILIES = (1, 2, 10, 16)
# Pushing input into a terminal, TIOCSTI, and a console's own requests, TIOCLINUX, which can do the same.
_TERMINAL_FAMILY, _REFUSED_TERMINAL = 0x54, frozenset((0x12, 0x1C))
# ioctl families that are refused as a whole: btrfs (0x94), XFS ('X') and the generic file attributes ('f') ...
_REFUSED_IOCTL_FAMILIES = frozenset((0x94, 0x58, 0x66))
# ... but for these: FICLONE, FICLONERANGE, FIDEDUPERANGE; FS_IOC_GETFLAGS, FS_IOC_FIEMAP, FS_IOC_FSGETXATTR.
_ALLOWED_IOCTLS = (0x40049409, 0x4020940D, 0xC0189436, 0x80086601, 0xC020660B, 0x801C581F)


def profile(*, is_root: bool = False) -> dict[str, Any]:
    """Return the profile; the engine takes its JSON text as the value of `seccomp=`.

    That of an instance which runs as root, by the host's policy, is without what the kernel counts by user and bounds
    by no resource limit: it would take that from the host's own root.
    """
    allowed = [name for name in _ALLOWED if not (is_root and name in _COUNTED_BY_USER)]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "archMap": [{"architecture": name, "subArchitectures": []} for name in _NATIVE],
        "syscalls": [
            _rule(allowed),
            _rule(["clone"], _masked(0, _NAMESPACE_FLAGS, 0)),
            # Its flags lie in memory that a filter cannot read. "Not there" makes the C library use clone.
            {**_rule(["clone3"]), "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
            # A program's own limits, or only reading another's: the first process of the container runs as the same
            # user, and could be left without descriptors, memory or time. The kernel looks at 32 bits of the number.
            _rule(["prlimit64"], _masked(0, 0xFFFFFFFF, 0)),
            _rule(["prlimit64"], _equal(2, 0)),
            *(_rule(["personality"], _equal(0, value)) for value in _PERSONALITIES),
            *(_rule(["socket"], _equal(0, family)) for family in _SOCKET_FAMILIES),
            *(_rule(["ioctl"], _equal(1, request)) for request in _ALLOWED_IOCTLS),
            *(
                _rule(["ioctl"], _masked(1, mask << 8, value << 8))
                for mask, value in cover_bytes_except(_REFUSED_IOCTL_FAMILIES | {_TERMINAL_FAMILY})
            ),
            *(
                _rule(["ioctl"], _masked(1, 0xFF00 | mask, _TERMINAL_FAMILY << 8 | value))
                for mask, value in cover_bytes_except(_REFUSED_TERMINAL)
            ),
        ],
    }


def _rule(names: Iterable[str], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(conditions)}


def _equal(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def cover_bytes_except(refused: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (mask, value) pairs that together match every byte but the refused ones.

    Rules of a filter are joined by "or", and one rule can compare an argument only once: "not any of these"
    has to be said as a union. The bytes are halved bit by bit until a half holds no refused one.
    """
    yield from _cover(frozenset(refused), mask=0, value=0, bit=7)


def _cover(refused: frozenset[int], mask: int, value: int, bit: int) -> Iterator[tuple[int, int]]:
    inside = frozenset(byte for byte in refused if byte & mask == value)
    if not inside:
        yield mask, value
    elif bit >= 0:
        for half in (0, 1 << bit):
            yield from _cover(inside, mask | 1 << bit, value | half, bit - 1)

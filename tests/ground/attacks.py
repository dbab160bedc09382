"""Attacks on a container's walls from inside it; runs by itself, with python3 and its standard library alone.

Usage: attacks.py [NAME...]. Prints a JSON list of {"attack", "outcome": "refused" or "SUCCEEDED", "errno", "detail"}.

Where one succeeds it does no harm: what would be written is what is there already, what would be loaded is nothing.
A call counts as having succeeded as soon as the kernel looks at its arguments. Each attack runs in a process of its
own.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import pty
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

SECONDS = 20
# The layers of the wall. Beside those that the platform puts up stand the kernel's own rules: who may write to whose
# files, who may look into whose process.
SECCOMP, CAPABILITY, MOUNT, MASK, NAMESPACE = "seccomp", "capability", "mount", "covered path", "namespace"
OWNERSHIP, PTRACE, PRIVILEGES, RLIMIT = "file ownership", "ptrace check", "no new privileges", "resource limit"
DEVICES = "devices"

_STOPPED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS)
_NUMBERS = {
    "x86_64": {
        "ptrace": 101, "syslog": 103, "pivot_root": 155, "chroot": 161, "acct": 163, "settimeofday": 164,
        "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169, "sethostname": 170, "iopl": 172,
        "init_module": 175, "delete_module": 176, "quotactl": 179, "kexec_load": 246, "add_key": 248,
        "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "prlimit64": 302,
        "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
        "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "clone": 56, "capset": 126,
        "sched_setscheduler": 144, "ioprio_set": 251, "chown": 92,
    },
    "aarch64": {
        "ptrace": 117, "syslog": 116, "pivot_root": 41, "chroot": 51, "acct": 89, "settimeofday": 170,
        "mount": 40, "umount2": 39, "swapon": 224, "reboot": 142, "sethostname": 161, "iopl": -1,
        "init_module": 105, "delete_module": 106, "quotactl": 60, "kexec_load": 104, "add_key": 217,
        "request_key": 218, "keyctl": 219, "unshare": 97, "perf_event_open": 241, "prlimit64": 261,
        "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
        "finit_module": 273, "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282, "clone": 220, "capset": 91,
        "sched_setscheduler": 119, "ioprio_set": 30,
    },
}[platform.machine()] | {
    "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "clone3": 435, "pidfd_getfd": 438,
    "mount_setattr": 442,
}  # fmt: skip
_LIBC = ctypes.CDLL(None, use_errno=True)


def _open_descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - before anything is opened
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            if int(name) > 2:
                found.append(str(Path(f"/proc/self/fd/{name}").readlink()))
    return found


_INHERITED = _open_descriptors()


class HeldError(Exception):
    """The attack failed, and no call of it did: what was gained is nothing."""


class Attack(NamedTuple):
    """One attack. `run` returns what was gained, or raises; `call` is the one that a layer has to stop, if it is."""

    name: str
    layer: str
    call: str
    run: Callable[[], str]
    by_root: bool = True  # whether it is an attack where root inside does it


_ATTACKS: list[Attack] = []


def attack(name: str, layer: str, call: str = "", *, by_root: bool = True) -> Callable[[Callable[[], str]], None]:
    def register(run: Callable[[], str]) -> None:
        _ATTACKS.append(Attack(name, layer, call, run, by_root))

    return register


def make(call: str, *arguments: int | bytes) -> int:
    """Make a system call; raises OSError with its errno."""
    words = [ctypes.c_long(item) if isinstance(item, int) else ctypes.c_char_p(item) for item in arguments]
    result = int(_LIBC.syscall(ctypes.c_long(_NUMBERS[call]), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def reach(call: str, *arguments: int | bytes) -> str:
    """Make a call that can do nothing; whatever the kernel says to its arguments, it was let through to say it."""
    try:
        make(call, *arguments)
    except OSError as error:
        if error.errno in _STOPPED:
            raise
        return f"{call} was let through: {error.strerror}"
    return f"{call} was let through"


def open_for_writing(*paths: str) -> str:
    """Open the first of some files for writing that is there, without writing to it."""
    path = next((path for path in paths if os.path.lexists(path)), paths[0])
    os.close(os.open(path, os.O_WRONLY))
    return f"{path} is open for writing"


def rewrite(path: str) -> str:
    """Write to a file what is in it already."""
    content = Path(path).read_bytes()
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, content)
    os.close(descriptor)
    return f"{path} was written to"


def names_in(directory: str) -> list[str]:
    """List a directory."""
    return sorted(path.name for path in Path(directory).iterdir())


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory to write to, in the instance's volume where it has one: a tmpfs runs nothing."""
    for place in ("/data", "/tmp", "/dev/shm", "."):
        if os.access(place, os.W_OK):
            with tempfile.TemporaryDirectory(dir=place) as directory:
                yield Path(directory)
            return
    raise HeldError("there is nowhere to write to")


@contextlib.contextmanager
def sibling() -> Iterator[int]:
    """Give another process of the same user."""
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


# Calls that can do nothing, whether they are let through or not. Numbers that are no descriptor, name or size make sure
# of that; flags have their names in the kernel's headers.
for _name, _call, *_arguments in (
    ("mount a file system", "mount", b"none", b"/mnt", b"tmpfs", 0, b""),
    ("mount over wshd", "mount", b"/usr/bin/env", b"/.bailey/wshd", b"", 0x1000, 0),
    ("mount by the new interface", "fsopen", b"tmpfs", 0),
    ("copy a mount away", "open_tree", -100, b"/", 1),
    ("move a mount", "move_mount", -1, b"", -1, b"", 0),
    ("make a mount writable", "mount_setattr", -100, b"/", 0, 0, 0),
    ("remount the root writable", "mount", b"none", b"/", b"", 0x20 | 0x1000, 0),  # MS_REMOUNT | MS_BIND
    ("uncover a covered path", "umount2", b"/proc/kcore", 2),
    ("change the root with pivot_root", "pivot_root", b".", b"."),
    ("change the root with chroot", "chroot", b"/"),
    ("make a user namespace with unshare", "unshare", 0x10000000),
    ("make a user namespace with clone3", "clone3", struct.pack("11Q", 0x10000000, *[0] * 10), 0),
    ("trace PID 1", "ptrace", 0x4206, 1, 0, 0),
    ("take PID 1's limits away", "prlimit64", 1, resource.RLIMIT_NOFILE, struct.pack("2Q", 3, 3), 0),
    ("read a key ring", "keyctl", 0, -3, 0),
    ("add a key", "add_key", b"user", b"bailey", b"x", 1, -1),
    ("have the host look for a key", "request_key", b"user", b"bailey", 0, -1),
    ("load a BPF program", "bpf", 5, b"\0" * 48, 48),
    ("count the processor's events", "perf_event_open", struct.pack("IIQ", 1, 112, 0) + b"\0" * 96, 0, -1, -1, 0),
    ("handle page faults of the kernel's", "userfaultfd", 0),
    ("set up io_uring", "io_uring_setup", 8, b"\0" * 120),
    ("load a kernel module", "init_module", b"", 0, b""),
    ("load a kernel module from a file", "finit_module", -1, b"", 0),
    ("remove a kernel module", "delete_module", b"no-such-module", 0),
    ("load another kernel", "kexec_load", 0, 0, 0, 0xFFF0),
    ("load another kernel from a file", "kexec_file_load", -1, -1, 0, b"", 0xFFF0),
    ("restart the host", "reboot", 1, 1, 1, 0),
    ("set the clock", "settimeofday", -1, 0),
    ("read the kernel's log", "syslog", 10, 0, 0),
    ("switch swap on", "swapon", b"/no/such/file", 0),
    ("switch accounting on", "acct", b"/no/such/file"),
    ("change disk quotas", "quotactl", 0, b"/no/such/device", 0, 0),
    ("name the host", "sethostname", os.fsencode(platform.node()), len(platform.node())),
):
    attack(_name, SECCOMP, _call)(partial(reach, _call, *_arguments))

# Files that are opened for writing and left as they are: of several paths the first that is there, for either version
# of control groups.
for _name, _layer, *_paths in (
    ("open PID 1's memory", PTRACE, "/proc/1/mem"),
    ("trigger a system request", MOUNT, "/proc/sysrq-trigger"),
    ("raise its own memory limit", MOUNT, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"),
    ("leave its control group", MOUNT, "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/cgroup.procs"),
    (
        "have the host run a program when a group is empty",
        MOUNT,
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/memory/notify_on_release",
        "/sys/fs/cgroup/cgroup.events",
    ),
    ("allow itself a device", MOUNT, "/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/cgroup.subtree_control"),
    ("change a processor's frequency", MOUNT, "/sys/devices/system/cpu/cpu0/uevent"),
    ("write to wshd's running image", PTRACE, "/proc/1/exe"),
    ("overwrite the running program", MOUNT, "/proc/self/exe"),
    ("change who there is", MOUNT, "/etc/passwd"),
    ("change whom it talks to", MOUNT, "/etc/hosts"),
):
    attack(_name, _layer)(partial(open_for_writing, *_paths))


# Mounts.


@attack("mount the control groups", SECCOMP, "mount")
def _() -> str:
    kind, data = (b"cgroup2", b"") if Path("/sys/fs/cgroup/cgroup.procs").exists() else (b"cgroup", b"memory")
    return reach("mount", kind, b"/mnt", kind, 0, data)


# Namespaces.


@attack("make a user namespace with clone", SECCOMP, "clone")
def _() -> str:
    if make("clone", 0x10000000 | 17, 0, 0, 0, 0) == 0:
        os._exit(0)
    return "a process in a user namespace"


@attack("enter another namespace", SECCOMP, "setns")
def _() -> str:
    return reach("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


# Other processes.


@attack("steal a descriptor of PID 1's", SECCOMP, "pidfd_getfd")
def _() -> str:
    return reach("pidfd_getfd", os.pidfd_open(1), 0, 0)


@attack("make PID 1 the first to be killed for memory", OWNERSHIP, by_root=False)
def _() -> str:
    return open_for_writing("/proc/1/oom_score_adj")


@attack("trace a sibling", SECCOMP, "ptrace")
def _() -> str:
    with sibling() as pid:
        return reach("ptrace", 0x4206, pid, 0, 0)  # PTRACE_SEIZE


@attack("write to PID 1's memory by call", SECCOMP, "process_vm_writev")
def _() -> str:
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(buffer), 8)
    return reach("process_vm_writev", 1, vector, 1, struct.pack("PN", 4096, 8), 1, 0)


@attack("read PID 1's memory by call", SECCOMP, "process_vm_readv")
def _() -> str:
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(buffer), 8)
    return reach("process_vm_readv", 1, vector, 1, struct.pack("PN", 4096, 8), 1, 0)


@attack("read PID 1's environment", PTRACE)
def _() -> str:
    return f"{len(Path('/proc/1/environ').read_bytes())} bytes of it"


@attack("open a descriptor of PID 1's", PTRACE)
def _() -> str:
    number = next((name for name in _names_or_some("/proc/1/fd")), "0")
    os.close(os.open(f"/proc/1/fd/{number}", os.O_RDONLY | os.O_NONBLOCK))
    return f"it has number {number}"


def _names_or_some(directory: str) -> list[str]:
    """List a directory; root inside may list PID 1's descriptors, and open none."""
    try:
        return names_in(directory)
    except OSError:
        return ["0"]


@attack("enter PID 1's root", PTRACE)
def _() -> str:
    return f"it has {names_in('/proc/1/root/')}"


@attack("spare itself when memory is short", CAPABILITY)
def _() -> str:
    Path("/proc/self/oom_score_adj").write_text("-1000")
    return "it will never be killed for memory"


@attack("kill PID 1", NAMESPACE)
def _() -> str:
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV):
        os.kill(1, number)
    time.sleep(0.2)
    state = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[0]
    if state in "TtZX":
        return f"it is in state {state}"
    raise HeldError("the kernel drops signals to it, and it those that come from inside")


@attack("see a process of the host's", NAMESPACE)
def _() -> str:
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in names_in("/proc") if pid.isdigit()}
    foreign = names & {"dockerd", "containerd", "systemd", "containerd-shim", "runsv", "sshd", "init"}
    if foreign:
        return f"it sees {sorted(foreign)}"
    raise HeldError(f"it sees {len(names)} programs, all of its own")


# The kernel's doors.


@attack("open a file by its handle", SECCOMP, "open_by_handle_at")
def _() -> str:
    return reach("open_by_handle_at", os.open("/", os.O_RDONLY), struct.pack("Ii8s", 8, 1, b"\2"), 0)


@attack("open a packet socket", SECCOMP, "socket")
def _() -> str:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    return "a packet socket"


@attack("open a socket of the kernel's crypto", SECCOMP, "socket")
def _() -> str:
    socket.socket(38, socket.SOCK_SEQPACKET, 0).close()
    return "a socket of AF_ALG"


@attack("open a socket to the virtual machine's host", SECCOMP, "socket")
def _() -> str:
    socket.socket(40, socket.SOCK_STREAM, 0).close()
    return "a socket of AF_VSOCK"


@attack("open a raw socket", CAPABILITY, "socket")
def _() -> str:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "a raw socket"


@attack("change a network interface", CAPABILITY, "ioctl")
def _() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = bytearray(struct.pack("16sh14x8x", b"lo", 0))
        fcntl.ioctl(control, 0x8913, request)  # SIOCGIFFLAGS, and the same back
        fcntl.ioctl(control, 0x8914, bytes(request))
    return "its flags were set"


# Becoming somebody else.


@attack("become root", CAPABILITY, "setresuid", by_root=False)
def _() -> str:
    os.setresuid(0, 0, 0)
    return "it is root"


@attack("join the group of root", CAPABILITY, "setgroups")
def _() -> str:
    os.setgroups([0, 6])
    return "it is in the groups of root and of the disks"


@attack("take capabilities", CAPABILITY, "capset")
def _() -> str:
    make("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0xFFFFFFFF] * 6))
    return "it has all capabilities"


@attack("give a file capabilities", CAPABILITY, "setxattr")
def _() -> str:
    with scratch() as place:
        program = place / "program"
        program.write_bytes(b"")
        os.setxattr(program, "security.capability", struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0, 0))
    return "a program with capabilities"


@attack("give a file to root", CAPABILITY, "fchownat", by_root=False)
def _() -> str:
    with scratch() as place:
        program = place / "program"
        program.write_bytes(b"")
        os.chown(program, 0, 0)
    return "a file of root's"


@attack("say whose its volume is", CAPABILITY, "setxattr")
def _() -> str:
    with scratch() as place:
        os.setxattr(place, "trusted.bailey.owner", b"0:0")
    return "an attribute that only the host may set"


def _set_id_programs() -> list[str]:
    found = []
    for directory in ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib"):
        for root, _, names in os.walk(directory):
            for name in names:
                with contextlib.suppress(OSError):
                    status = os.lstat(f"{root}/{name}")
                    if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                        found.append(f"{root}/{name}")
    return sorted(set(found))


def _users_of(argv: list[str]) -> set[int]:
    """Return every user and group that a program is seen to have while it waits for what it asks."""
    seen: set[int] = set()
    master, slave = pty.openpty()
    with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as child:
        deadline = time.monotonic() + 0.5
        while child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{child.pid}/status").read_text()
                rows = dict(line.partition(":")[::2] for line in text.splitlines())
                seen |= {int(word) for word in (rows["Uid"] + rows["Gid"]).split()}
        with contextlib.suppress(PermissionError):  # it has become another's; without its terminal it ends
            child.kill()
        os.close(master)
        os.close(slave)
    return seen


@attack("use the image's set-user-ID programs", PRIVILEGES, by_root=False)
def _() -> str:
    programs = _set_id_programs()
    mine = {os.getuid(), os.getgid()}
    for program in programs:
        gained = _users_of([program]) - mine
        if gained:
            return f"{program} runs as {sorted(gained)}"
    raise HeldError(f"{len(programs)} of them run as their caller: {', '.join(programs)}")


@attack("become root with su", PRIVILEGES, by_root=False)
def _() -> str:
    done = subprocess.run(["su", "-c", "id -u"], input="\n", capture_output=True, text=True, check=False, timeout=15)
    if done.stdout.strip() == "0":
        return "it is root"
    raise HeldError((done.stderr or done.stdout).strip().replace("\n", " "))


@attack("become root by a set-user-ID file of its own", PRIVILEGES, by_root=False)
def _() -> str:
    with scratch() as place:
        program = place / "id"
        program.write_bytes(Path("/usr/bin/id").read_bytes())
        program.chmod(0o6755)
        shown = subprocess.run([program, "-u"], capture_output=True, text=True, check=True).stdout.strip()
    if shown != str(os.getuid()):
        return f"it ran as {shown}"
    raise HeldError("it is its own file, and runs as itself")


# Files of the kernel's.


@attack("change the pattern of core dumps", MOUNT)
def _() -> str:
    return rewrite("/proc/sys/kernel/core_pattern")


@attack("change the program that loads modules", MOUNT)
def _() -> str:
    return rewrite("/proc/sys/kernel/modprobe")


@attack("change a setting of the kernel's network", MOUNT)
def _() -> str:
    return rewrite("/proc/sys/net/ipv4/ip_forward")


@attack("write to any file of the kernel's", MOUNT)
def _() -> str:
    # Waiting for pressure is an ordinary user's right; a process's own files are its own.
    harmless = ("/proc/pressure", "/proc/self", "/proc/thread-self", "/proc/net", "/proc/mounts")
    found = []
    for top in ("/proc", "/sys"):
        for root, directories, names in os.walk(top):
            directories[:] = [item for item in directories if not (root == "/proc" and item.isdigit())]
            for name in names:
                path = f"{root}/{name}"
                if not path.startswith(harmless) and _can_be_written_to(path):
                    found.append(path)
    if found:
        return f"{len(found)} files, {found[:5]} among them"
    raise OSError(errno.EROFS, "none can be opened for writing")


def _can_be_written_to(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_rdev != os.makedev(1, 3)  # the null device covers what nobody is to see
    finally:
        os.close(descriptor)


_COVERED = (
    *("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms", "/proc/modules", "/proc/interrupts"),
    *("/proc/slabinfo", "/proc/vmallocinfo", "/proc/iomem", "/proc/kpageflags", "/proc/config.gz", "/proc/kmsg"),
    *("/proc/sched_debug", "/proc/softirqs", "/proc/buddyinfo", "/proc/key-users", "/sys/kernel/notes"),
    *("/sys/kernel/vmcoreinfo", "/sys/kernel/slab", "/sys/firmware", "/sys/module", "/proc/acpi", "/proc/scsi"),
)


def _shows(path: str) -> bool:
    try:
        if Path(path).is_dir():
            return bool(names_in(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return bool(os.read(descriptor, 16))
        finally:
            os.close(descriptor)
    except OSError:
        return False


@attack("look behind a covered path", MASK)
def _() -> str:
    seen = [path for path in _COVERED if _shows(path)]
    if seen:
        return f"it sees {seen}"
    raise HeldError("all of them are empty")


@attack("reach a covered path by another name", MASK)
def _() -> str:
    with scratch() as place:
        link = place / "link"
        link.symlink_to("/proc/keys")
        names = [str(link), "/proc/self/root/proc/keys", "/proc/self/../keys", "/proc/thread-self/../../../keys"]
        directory = os.open("/proc", os.O_RDONLY)
        names.append(f"/proc/self/fd/{directory}/keys")
        seen = [name for name in names if _shows(name)]
    if seen:
        return f"it sees {seen}"
    raise HeldError("a link leads where its target does")


# Devices.


@attack("make a device", CAPABILITY, "mknodat")
def _() -> str:
    with scratch() as place:
        os.mknod(place / "mem", stat.S_IFCHR | 0o600, os.makedev(1, 1))
    return "the host's memory"


@attack("make a disk of the host's and read it", CAPABILITY, "mknodat")
def _() -> str:
    with scratch() as place:
        node = place / "disk"
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(7, 0))
        os.close(os.open(node, os.O_RDONLY))
    return "a loop device of the host's"


@attack("open a device of the host's", DEVICES)
def _() -> str:
    wanted = ("mem", "kmsg", "port", "loop-control", "btrfs-control", "kvm", "fuse", "net/tun", "vda", "sda", "loop0")
    for name in wanted:
        with contextlib.suppress(OSError):
            os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
            return f"/dev/{name} is open"
    usual = {"null", "zero", "full", "random", "urandom", "tty", "console"}
    others = [entry.name for entry in os.scandir("/dev") if entry.name not in usual and _is_device(entry)]
    if others:
        return f"there are {others}"
    raise OSError(errno.ENOENT, "none of them is there")


def _is_device(entry: os.DirEntry[str]) -> bool:
    mode = entry.stat(follow_symlinks=False).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


# What the platform put into the container.

_WSHD = Path("/.bailey/wshd")


@attack("write to wshd", MOUNT)
def _() -> str:
    os.close(os.open(_WSHD, os.O_WRONLY | os.O_TRUNC))
    return "wshd is open for writing"


@attack("remove wshd", MOUNT)
def _() -> str:
    _WSHD.unlink()
    return "wshd has gone"


@attack("put another program in wshd's place", MOUNT)
def _() -> str:
    _WSHD.rename(_WSHD.with_name("other"))
    return "wshd was moved away"


@attack("make wshd writable", MOUNT, "fchmodat")
def _() -> str:
    _WSHD.chmod(0o777)
    return "wshd can be written to by all"


@attack("put a socket at the gate", MOUNT)
def _() -> str:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("/.bailey/boot/gate")
    return "a socket of its own is at the gate"


@attack("knock at the gate again", NAMESPACE)
def _() -> str:
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.connect("/.bailey/boot/gate")
    return "somebody listens at the gate"


@attack("reach the engine", NAMESPACE)
def _() -> str:
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"):
        with socket.socket(socket.AF_UNIX) as asking, contextlib.suppress(FileNotFoundError):
            asking.connect(path)
            return f"it talks to {path}"
    raise OSError(errno.ENOENT, "no socket of the engine's is there")


@attack("write to the image", MOUNT)
def _() -> str:
    Path("/usr/bin/bailey-attack").write_text("")
    return "a program in the image"


@attack("find a descriptor of the host's", NAMESPACE)
def _() -> str:
    # Standard input, output and error are the session's.
    if _INHERITED:
        return f"it has {_INHERITED}"
    raise HeldError("nothing is open but its own")


# Programs and terminals.


@attack("run a program from memory file systems", MOUNT, "execve")
def _() -> str:
    for place in ("/tmp", "/dev/shm"):
        if os.access(place, os.W_OK):
            program = Path(place, f"program-{os.getpid()}")
            program.write_bytes(Path("/usr/bin/true").read_bytes())
            program.chmod(0o755)
            try:
                subprocess.run([program], check=True)
            finally:
                program.unlink()
            return f"{place} runs programs"
    raise HeldError("there is no such file system")


@attack("map a program from memory file systems", MOUNT, "mmap")
def _() -> str:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(b"\xc3" * mmap.PAGESIZE)
        file.flush()
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE).close()
    return "/dev/shm holds code"


@attack("type into a terminal", SECCOMP, "ioctl")
def _() -> str:
    child, master = pty.fork()
    if child == 0:
        code = 0
        try:
            fcntl.ioctl(0, termios.TIOCSTI, b"x")
        except OSError as error:
            code = error.errno or 255
        os._exit(code)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        if select.select([master], [], [], 0)[0]:
            os.read(master, 16)
    os.close(master)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise OSError(code, os.strerror(code))
    return "somebody's terminal has a letter more"


@attack("make a subvolume without a limit", SECCOMP, "ioctl")
def _() -> str:
    with scratch() as place:
        directory = os.open(place, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, 0x5000940E, bytearray(struct.pack("q4088s", 0, b"escape")))
        except OSError as error:
            if error.errno in _STOPPED:
                raise
            return f"the file system was asked: {error.strerror}"
        finally:
            os.close(directory)
    return "a subvolume"


@attack("move a file to another disk quota", SECCOMP, "ioctl")
def _() -> str:
    with scratch() as place:
        file = os.open(place / "file", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.ioctl(file, 0x401C5820, array.array("B", bytes(28)))
        except OSError as error:
            if error.errno in _STOPPED:
                raise
            return f"the file system was asked: {error.strerror}"
        finally:
            os.close(file)
    return "a file of project 0"


@attack("raise a hard resource limit", CAPABILITY, "prlimit64")
def _() -> str:
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            make("prlimit64", 0, kind, struct.pack("2Q", hard + 1, hard + 1), 0)
            return "a limit above its own"
    raise HeldError("there is none below the highest")


@attack("run before everybody else", CAPABILITY, "sched_setscheduler")
def _() -> str:
    make("sched_setscheduler", 0, 1, struct.pack("i", 1))  # SCHED_FIFO
    return "it has real-time priority"


@attack("be nicer to itself than to others", CAPABILITY, "setpriority")
def _() -> str:
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    return "it has a priority above the others'"


@attack("dump core where the host keeps files", MOUNT)
def _() -> str:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError, ValueError):
            limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
        os.chdir("/")
        os.abort()
    _, status = os.waitpid(child, 0)
    if os.WCOREDUMP(status):
        return f"core was dumped by the pattern {Path('/proc/sys/kernel/core_pattern').read_text().strip()!r}"
    raise OSError(errno.EROFS, "no core was written")


ATTACKS = tuple(_ATTACKS)
Result = dict[str, object]


def _attempt(item: Attack) -> Result:
    try:
        return {"attack": item.name, "outcome": "SUCCEEDED", "errno": None, "detail": item.run()}
    except OSError as error:
        return {"attack": item.name, "outcome": "refused", "errno": error.errno, "detail": str(error)}
    except HeldError as error:
        return {"attack": item.name, "outcome": "refused", "errno": None, "detail": str(error)}
    except Exception as error:
        return {"attack": item.name, "outcome": "SUCCEEDED", "errno": None, "detail": f"it is broken: {error!r}"}


def run(item: Attack) -> Result:
    """Run one attack in a process of its own; one that ends without a word, or not at all, has not been refused."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(SECONDS)
        with os.fdopen(writing, "w") as report:
            json.dump(_attempt(item), report)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        text = report.read()
    _, status = os.waitpid(child, 0)
    if text:
        found: Result = json.loads(text)
        return found
    return {"attack": item.name, "outcome": "SUCCEEDED", "errno": None, "detail": f"it ended with status {status}"}


def main(names: list[str]) -> None:
    """Run the attacks that are named, or all that this user can be an attacker with."""
    unknown = set(names) - {item.name for item in ATTACKS}
    if unknown:
        sys.exit(f"there is no attack {', '.join(sorted(unknown))}")
    chosen = [item for item in ATTACKS if (item.name in names or not names) and (item.by_root or os.getuid() != 0)]
    print(json.dumps([run(item) for item in chosen], indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])

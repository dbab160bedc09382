"""Hosts as trees of files: what the kernel shows below /proc and /sys, and what a distribution has below /boot."""

from __future__ import annotations

from pathlib import Path

from bailey.lockdown.kernel import Kernel

RELEASE = "6.1.0-40-amd64"
SYSCTLS = {
    "kernel/osrelease": RELEASE,
    "kernel/random/boot_id": "first",
    "kernel/dmesg_restrict": "0",
    "kernel/kptr_restrict": "0",
    "kernel/unprivileged_bpf_disabled": "2",
    "kernel/perf_event_paranoid": "2",
    "kernel/yama/ptrace_scope": "0",
    "kernel/unprivileged_userns_clone": "1",
    "kernel/kexec_load_disabled": "0",
    "kernel/modules_disabled": "0",
    "kernel/panic_on_oops": "0",
    "kernel/sysrq": "438",
    "fs/protected_symlinks": "1",
    "fs/protected_hardlinks": "1",
    "fs/protected_fifos": "1",
    "fs/protected_regular": "2",
    "net/core/bpf_jit_harden": "0",
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "user/max_user_namespaces": "1000",
    "vm/mmap_rnd_bits": "28",
    "vm/swappiness": "60",
}
BUILD = (
    "CONFIG_STRICT_DEVMEM=y\nCONFIG_IO_STRICT_DEVMEM=y\n# CONFIG_DEVKMEM is not set\nCONFIG_HARDENED_USERCOPY=y\n"
    "CONFIG_SLAB_MERGE_DEFAULT=y\nCONFIG_SHUFFLE_PAGE_ALLOCATOR=y\nCONFIG_SLAB_FREELIST_RANDOM=y\n"
    "CONFIG_SLAB_FREELIST_HARDENED=y\nCONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\nCONFIG_MODULES=y\n"
    'CONFIG_SECURITY_PERF_EVENTS_RESTRICT=y\nCONFIG_ARCH_MMAP_RND_BITS_MAX=32\nCONFIG_LSM="yama,apparmor"\n'
    "CONFIG_X86_VSYSCALL_EMULATION=y\nCONFIG_DEBUG_FS=y\n"
)
GRUB = "#!/bin/sh\necho made >>{log}\nexit {status}\n"


def put(root: Path, name: str, text: str) -> Path:
    """Write a file of a host."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make_host(root: Path, *, cmdline: str = "quiet", build: str | None = BUILD) -> Path:
    """Make a host as Debian is installed: a kernel with modules, AppArmor and Yama, and no GRUB."""
    for place, value in SYSCTLS.items():
        put(root, f"proc/sys/{place}", f"{value}\n")
    put(root, "proc/cmdline", f"{cmdline}\n")
    put(root, "proc/modules", "overlay 163840 0 - Live 0x0\n")
    put(root, "proc/cpuinfo", "processor : 0\nflags : fpu nx smep smap\n\nprocessor : 1\nflags : fpu\n")
    put(root, "sys/kernel/security/lsm", "lockdown,capability,yama,apparmor")
    put(root, "sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n")
    if build is not None:
        put(root, f"boot/config-{RELEASE}", build)
    (root / "etc/sysctl.d").mkdir(parents=True)
    (root / "proc/self/ns").mkdir(parents=True)
    (root / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    return root


def make_container(root: Path) -> Path:
    """Make a host that is a container of another one."""
    make_host(root)
    (root / "proc/self/ns/pid").unlink()
    (root / "proc/self/ns/pid").symlink_to("pid:[4026532199]")
    return root


def make_grsecurity(root: Path, **settings: str) -> Path:
    """Make a host whose kernel has grsecurity."""
    make_host(root)
    given = {"dmesg": "0", "harden_ptrace": "0", "chroot_deny_mount": "0", "grsec_lock": "0", **settings}
    for name, value in given.items():
        put(root, f"proc/sys/kernel/grsecurity/{name}", f"{value}\n")
    return root


def add_grub(root: Path, *, status: int = 0) -> Path:
    """Give a host GRUB; return the file to which its update-grub adds a line each time."""
    log = root / "grub.log"
    put(root, "usr/sbin/update-grub", GRUB.format(log=log, status=status)).chmod(0o755)
    (root / "boot/grub").mkdir(parents=True)
    return log


def setting(root: Path, place: str) -> str:
    """Return what the kernel holds."""
    return (root / "proc/sys" / place).read_text().strip()


def tree(root: Path) -> dict[str, str]:
    """Return every file of a host with its text."""
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


class Stubborn(Kernel):
    """A kernel that refuses some settings, or makes something else of them."""

    def __init__(self, root: Path, *, refuses: tuple[str, ...] = (), clamps: dict[str, str] | None = None) -> None:
        super().__init__(root)
        self.refuses, self.clamps = refuses, clamps or {}
        self.asked: list[str] = []

    def write(self, place: str, value: str) -> None:
        self.asked.append(place)
        if place in self.refuses:
            raise PermissionError(1, "Operation not permitted", place)
        if place in self.clamps and value != setting(self.root, place) and value not in ("0", "28"):
            value = self.clamps[place]
        super().write(place, value)

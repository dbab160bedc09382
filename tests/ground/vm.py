"""A Debian virtual machine under QEMU: a real kernel with AppArmor, cgroup v2, XFS quotas, a boot loader and reboots.

Its disk is made from the distribution's packages and kept as an image beside its ssh key; a machine writes to an
overlay of its own, so that each starts as a fresh installation. It is reached by ssh on a port of loopback as the
account `deploy`, which becomes root by sudo. A second, empty disk is the tenants'.

QEMU translates: /dev/kvm can be there and hang, and what is proven here does not depend on speed.

Usage as a program, as root: python3 -m tests.ground.vm start NAME PORT, or stop NAME, or image. PORT is the one of
loopback that leads to the machine's ssh; the key is the file `key` in the machine's directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .engine import GroundError, command
from .rootfs import CACHE, RootFs, codename, package_sources

ACCOUNT = "deploy"
_HOME = Path("/var/lib/bailey-test-vm")
_DISK_BYTES = 16 << 30
_PARTITION_BYTES = 1 << 20
_SECTOR_BYTES, _BOOT_CODE_BYTES = 512, 440  # of a master boot record, before the disk's signature
_TENANTS_BYTES = 6 << 30
_NICENESS = -10
_START_SECONDS = 300.0
_STOP_SECONDS = 60.0
_MEMORY_MIB = 3072
_EMULATOR = "qemu-system-x86_64"

# What an installer leaves on a Debian server, and what the roles' own packages depend on or is slow to unpack under
# translation. The roles' own packages are only fetched: installing them is theirs.
_SERVER = """
    apparmor ca-certificates dbus grub-pc grub2-common ifupdown initramfs-tools iproute2 isc-dhcp-client kmod
    libpam-systemd linux-image-amd64 openssh-server procps python3 python3-apt sudo systemd systemd-sysv
    systemd-timesyncd tini udev
"""
_SLOW = """
    btrfs-progs gcc libc6-dev libjansson4 libnetfilter-log1 make mmdebstrap musl-tools openssl python3-docker xfsprogs
    xz-utils
"""
_FETCHED = """
    apache2-utils apparmor-utils auditd crun docker-registry docker.io iptables jq libnftables1 nftables
    ulogd2 ulogd2-json unattended-upgrades yara
"""
_NETWORK = "auto lo\\niface lo inet loopback\\nauto ens3\\niface ens3 inet dhcp\\n"
_GRUB = 'GRUB_TIMEOUT=0\\nGRUB_DISABLE_OS_PROBER=true\\nGRUB_TERMINAL=serial\\nGRUB_CMDLINE_LINUX="console=ttyS0"\\n'
SYSTEM = RootFs(
    "bailey-test/vm:1",
    tuple(f"{_SERVER} {_SLOW}".split()),
    (
        f'chroot "$1" apt-get -qq install --download-only --no-install-recommends -y {" ".join(_FETCHED.split())}',
        # The name that an installer gives it, and that the roles look for.
        'cd "$1/etc/apt/sources.list.d" && for file in 0000*.sources; do mv "$file" "${file#0000}"; done',
        f'chroot "$1" useradd --create-home --shell /bin/bash {ACCOUNT}',
        f'echo "{ACCOUNT} ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/{ACCOUNT}"',
        f'printf "{_NETWORK}" >"$1/etc/network/interfaces"',
        'echo bailey-vm >"$1/etc/hostname"; echo "127.0.1.1 bailey-vm" >>"$1/etc/hosts"',
        'mkdir -p "$1/etc/default/grub.d"',
        f"printf '{_GRUB}' >\"$1/etc/default/grub.d/10-machine.cfg\"",
        # Only what finds the root disk; and never again, for each takes minutes under translation.
        'echo MODULES=list >"$1/etc/initramfs-tools/conf.d/machine"',
        'printf "virtio_pci\\nvirtio_blk\\next4\\n" >>"$1/etc/initramfs-tools/modules"',
        'chroot "$1" update-initramfs -u',
        'echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"',
        'chroot "$1" systemctl disable apt-daily.timer apt-daily-upgrade.timer',
        'rm -f "$1/usr/sbin/policy-rc.d" "$1/etc/machine-id"; : >"$1/etc/machine-id"',
    ),
    keep_apt=True,
)


@dataclass(frozen=True)
class Image:
    """The disk of a fresh installation, and the key that opens it."""

    system: RootFs = SYSTEM

    @property
    def stem(self) -> str:
        """Another one is made when the system's inputs change, or how it is put on the disk."""
        layout = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
        return f"bailey-test-vm-disk-{self.system.inputs()}-{layout}"

    @property
    def disk(self) -> Path:
        """The disk, raw and sparse."""
        return CACHE / f"{self.stem}.img"

    @property
    def key(self) -> Path:
        """The private key of the account that Ansible uses."""
        return CACHE / f"{self.stem}.key"

    def ensure(self) -> bool:
        """Make the image unless it is there; say whether it was not."""
        if self.disk.exists() and self.key.exists():
            return False
        archive = self.system.archive()
        for old in CACHE.glob("bailey-test-vm-disk-*"):
            old.unlink()
        command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bailey-test", "-f", str(self.key)])
        unfinished = self.disk.with_suffix(".part")
        with unfinished.open("wb") as file:
            file.truncate(_DISK_BYTES)
        command(["sfdisk", "--quiet", str(unfinished)], stdin="label: dos\nstart=1MiB, type=83, bootable\n")
        with _file_system(unfinished) as (root, identity):
            command(["tar", "--extract", "--numeric-owner", "--xattrs", f"--directory={root}", f"--file={archive}"])
            self._let_in(root)
            shutil.copyfile(_tenants_base(), root / "srv/base.tar")
            (root / "etc/fstab").write_text(f"UUID={identity} / ext4 errors=remount-ro 0 1\n")
            core = _boot_loader(root, identity)
        _write_boot_loader(unfinished, *core)
        unfinished.rename(self.disk)
        return True

    def _let_in(self, root: Path) -> None:
        directory = root / "home" / ACCOUNT / ".ssh"
        directory.mkdir(mode=0o700)
        (directory / "authorized_keys").write_text(self.key.with_suffix(".key.pub").read_text())
        owner = (root / "home" / ACCOUNT).stat()
        for path in (directory, directory / "authorized_keys"):
            os.chown(path, owner.st_uid, owner.st_gid)


def _tenants_base() -> Path:
    """Make the tenants' base as role images would on the machine, with Python in it; minutes under translation."""
    scripts = Path(__file__).parents[2] / "roles/images/files/base"
    packages = "ca-certificates,netbase,procps,python3,tzdata"
    inputs = hashlib.sha256(packages.encode() + b"".join(path.read_bytes() for path in sorted(scripts.iterdir())))
    path = CACHE / f"bailey-test-vm-base-{inputs.hexdigest()[:16]}.tar"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        arguments = [codename(), packages, "false"]
        sources = [str(source) for source in package_sources()]
        command([str(scripts / "build"), str(path), *arguments, *sources], timeout=900)
    return path


@contextlib.contextmanager
def _file_system(disk: Path) -> Iterator[tuple[Path, str]]:
    """Make the partition's file system and mount it; yield where, and its UUID.

    By its offset, because not every kernel makes devices of a loop device's partitions.
    """
    device = command(["losetup", "--find", "--show", f"--offset={_PARTITION_BYTES}", str(disk)]).strip()
    root = disk.with_suffix(".root")
    root.mkdir(exist_ok=True)
    try:
        command(["mkfs.ext4", "-q", device])
        identity = command(["blkid", "-o", "value", "-s", "UUID", device]).strip()
        command(["mount", device, str(root)])
        try:
            yield root, identity
        finally:
            command(["umount", str(root)])
    finally:
        root.rmdir()
        command(["losetup", "--detach", device])


def _boot_loader(root: Path, identity: str) -> tuple[bytes, bytes]:
    """Put GRUB and its first configuration on the file system; return its boot sector and its core.

    grub-install wants devices of partitions, and does no more than this. The guest's own update-grub writes the
    configuration anew as soon as a boot parameter changes.
    """
    modules = root / "usr/lib/grub/i386-pc"
    grub = root / "boot/grub"
    shutil.copytree(modules, grub / "i386-pc")
    kernel = next(path.name.removeprefix("vmlinuz-") for path in root.glob("boot/vmlinuz-*"))
    (grub / "grub.cfg").write_text(
        f"search --no-floppy --fs-uuid --set=root {identity}\n"
        f"linux /boot/vmlinuz-{kernel} root=UUID={identity} ro console=ttyS0\n"
        f"initrd /boot/initrd.img-{kernel}\nboot\n"
    )
    image = ["grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", "/tmp/core.img"]
    command(["chroot", str(root), *image, "biosdisk", "part_msdos", "ext2", "normal", "linux", "search"])
    core = root / "tmp/core.img"
    code = (modules / "boot.img").read_bytes(), core.read_bytes()
    core.unlink()
    return code


def _write_boot_loader(disk: Path, sector: bytes, core: bytes) -> None:
    """Write it before the partition: boot.img looks for the core in sector 1, where grub-mkimage made it for."""
    with disk.open("r+b") as file:
        file.write(sector[:_BOOT_CODE_BYTES])
        file.seek(_SECTOR_BYTES)
        if _SECTOR_BYTES + len(core) > _PARTITION_BYTES:
            raise GroundError(f"GRUB's core takes {len(core)} bytes and does not fit before the partition")
        file.write(core)


@dataclass(frozen=True)
class Machine:
    """One virtual machine. Its directory is there while it is."""

    name: str
    port: int = 0
    image: Image = Image()

    @property
    def directory(self) -> Path:
        """Its overlay, its second disk, its console's log and its process number."""
        return _HOME / self.name

    @property
    def pid(self) -> int | None:
        """The emulator's process, or None where it does not run."""
        try:
            pid = int((self.directory / "pid").read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if str(self.directory / "pid").encode() in arguments.split(b"\0") else None

    def start(self) -> bool:
        """Start a fresh machine and wait for its ssh, unless it runs; say whether it did not."""
        if self.pid is not None:
            return False
        if shutil.which(_EMULATOR) is None:
            raise GroundError(f"{_EMULATOR} is not installed, and nothing else can stand for a real kernel")
        self.image.ensure()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o700, parents=True)
        make = ["qemu-img", "create", "-q", "-f", "qcow2"]
        command([*make, "-F", "raw", "-b", str(self.image.disk), self._disk("root")])
        command([*make, self._disk("tenants"), str(_TENANTS_BYTES)])
        (self.directory / "key").symlink_to(self.image.key)
        command(["nice", "-n", str(_NICENESS), *self._emulator()])
        self._go_first()
        self.wait()
        return True

    def _go_first(self) -> None:
        """Have the scheduler prefer it to what runs beside it: translated, it is what everything waits for.

        Where the kernel shares processors between sessions, niceness counts within one alone, and a session's own is
        written to this file: sched(7), "The autogroup feature".
        """
        autogroup = Path(f"/proc/{self.pid}/autogroup")
        with contextlib.suppress(FileNotFoundError, PermissionError):  # it is slower then, and no other machine
            autogroup.write_text(str(_NICENESS))

    def _disk(self, name: str) -> str:
        return str(self.directory / f"{name}.qcow2")

    def _emulator(self) -> list[str]:
        drives = [
            part
            for name in ("root", "tenants")
            for part in ("-drive", f"file={self._disk(name)},if=virtio,format=qcow2,cache=unsafe,discard=unmap")
        ]
        network = f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        return [
            *(_EMULATOR, "-name", self.name, "-daemonize", "-pidfile", str(self.directory / "pid")),
            *("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off", "-smp", "2", "-m", str(_MEMORY_MIB)),
            *("-display", "none", "-monitor", "none", "-serial", f"file:{self.directory}/console.log"),
            *("-netdev", network, "-device", "virtio-net-pci,netdev=net,addr=3", "-device", "virtio-rng-pci"),
            *drives,
        ]

    def wait(self) -> None:
        """Wait until its ssh lets the account in and its init has settled; GroundError shows the console's end."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.pid is not None:
            state = self.ssh("systemctl is-system-running --wait", check=False, timeout=120).strip()
            if state in ("running", "degraded"):
                return
            time.sleep(1)
        console = (self.directory / "console.log").read_text(errors="replace")
        raise GroundError(f"{self.name} is not up after {_START_SECONDS:g} s; its console ends:\n{console[-3000:]}")

    def ssh(self, words: str, *, check: bool = True, timeout: float = 120.0) -> str:
        """Run a shell command as the account and return what it printed."""
        try:
            return command([*self._ssh(), words], check=check, timeout=timeout)
        except subprocess.TimeoutExpired:
            if check:
                raise GroundError(f"{self.name}: {words}: not finished after {timeout:g} s") from None
            return ""

    def _ssh(self) -> Sequence[str]:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=10", "BatchMode=yes")
        flags = [word for option in options for word in ("-o", option)]
        return ["ssh", "-q", *flags, "-i", str(self.image.key), "-p", str(self.port), f"{ACCOUNT}@127.0.0.1"]

    def stop(self) -> bool:
        """End it, by its process number, and remove all that it wrote; say whether there was any."""
        pid = self.pid
        if pid is not None:
            process = os.pidfd_open(pid)
            signal.pidfd_send_signal(process, signal.SIGTERM)
            _wait_for_end(process)
        found = self.directory.exists()
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            _HOME.rmdir()
        return found


def _wait_for_end(process: int) -> None:
    try:
        if not select.select([process], [], [], _STOP_SECONDS)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], _STOP_SECONDS)
    finally:
        os.close(process)


def main(arguments: list[str]) -> int:
    """Carry out one command of the usage."""
    match arguments:
        case ["image"]:
            print("made" if Image().ensure() else "present")
        case ["start", name, port]:
            print("started" if Machine(name, int(port)).start() else "runs", name)
        case ["stop", name]:
            print("stopped" if Machine(name).stop() else "absent", name)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except GroundError as error:
        sys.exit(str(error))

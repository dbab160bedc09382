"""What is on a host, taken before the platform comes and after it has gone, and the difference of the two.

Runs on the host itself with its own Python and nothing else. Packages stay installed when the platform goes, and
with them what they bring: their files, what their maintainer scripts make (ALLOWED), their caches.

Usage as a program, as root: snapshot.py take, which prints JSON; snapshot.py compare BEFORE AFTER
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

Snapshot = dict[str, list[str]]

_ROOTS = (
    *("/etc", "/opt", "/run", "/srv", "/usr/bin", "/usr/lib/bailey", "/usr/local"),
    *("/var/lib", "/var/log", "/var/spool"),
)
_HOME = Path("/root")  # its own entries only: what a developer keeps below them is not the platform's
_DEPTH = 7  # parts of a path; deeper down it is an engine's or a program's own store

# Whole directories that say nothing about the platform: the state of the package manager and of systemd's own
# units, what is rebuilt from packages, the tests' own, and what a login or another program changes at any time.
_SKIPPED = (
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/run/bailey-test",
    "/run/bailey-test-ids",
    "/run/bailey-test-platform",
    "/run/lock",
    "/run/log",
    "/run/systemd",
    "/run/udev",
    "/run/user",
    "/var/lib/apt",
    "/var/lib/bailey-test",
    "/var/lib/bailey-test-ids",
    "/var/lib/bailey-test-platform",
    "/var/lib/bailey-test-vm",
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/var/log/apt",
    "/var/log/journal",
)

# In the environment of what tests run beside the one that asks: another machine's emulator, and what leads it.
_BESIDE = b"BAILEY_TEST_BESIDE=1"

# linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h: a dump of all tables.
_NETLINK_NETFILTER, _NFT_GETTABLE, _NLM_F_REQUEST_DUMP = 12, 10 << 8 | 1, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

# What remains of packages that were installed for the platform and stay: (kind, pattern, why).
ALLOWED = (
    ("accounts", r"(user|group) (docker|docker-registry|_runit-log|runit-log|_apt|ulog|www-data)", "made by packages"),
    ("files", r"/etc/(group|gshadow|passwd|shadow|subuid|subgid)-?", "hold those accounts; compared one by one"),
    ("files", r"/etc/(ld\.so\.cache|mailcap|\.pwd\.lock)", "written by triggers of packages"),
    ("files", r"/etc/rc[0-6S]\.d/[KS]\d\d[a-z0-9.-]+", "made by a package that brings a service"),
    ("files", r"/etc/systemd/system/[a-z-]+\.target\.wants/[a-z.-]+", "made by a package that brings a service"),
    ("files", r"/etc/systemd/system/[a-z-]+\.target\.wants", "the same"),
    ("files", r"/etc/networks", "made by netbase"),
    ("files", r"/(etc|run)/runit(/.*)?|/etc/sv/default-syslog/supervise", "made by runit"),
    ("files", r"/run/adduser", "made by adduser, for accounts of packages"),
    ("files", r"/etc/cni(/net\.d)?", "made by containerd, which packages bring"),
    ("files", r"/var/log/(alternatives|dpkg|fontconfig|bootstrap)\.log", "written by packages"),
    ("files", r"/(run|var/log)/ulog", "made by ulogd2"),
    ("tables", r"ip6? (filter|mangle|nat|raw|security)", "iptables makes its own when it is first asked"),
    ("rules", r"table ip6? (filter|mangle|nat|raw|security) \{|\}", "the same; once empty they let through all"),
    ("rules", r"chain (FORWARD|INPUT|OUTPUT|POSTROUTING|PREROUTING) \{", "the same"),
    ("rules", r"type \w+ hook \w+ priority [-+ \w]+; policy accept;", "the same"),
    ("files", r"/var/lib/(dbus|ucf|update-rc\.d|python|pam)(/.*)?", "the package manager's helpers' state"),
)


def _output(*argv: str) -> list[str]:
    """Return a program's lines; a program that is not installed has nothing to show."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    except FileNotFoundError:
        return []


def _accounts() -> list[str]:
    users = [f"user {entry.pw_name}" for entry in pwd.getpwall()]
    return users + [f"group {entry.gr_name}" for entry in grp.getgrall()]


def _owned_by_packages() -> set[str]:
    """Collect the paths that packages own, by the names that lead through links in the root directory too."""
    owned: set[str] = set()
    for listing in Path("/var/lib/dpkg/info").glob("*.list"):
        owned.update(listing.read_text().splitlines())
    return owned | {f"/usr{path}" for path in owned if path.startswith(("/lib/", "/bin/", "/sbin/"))}


def _files() -> list[str]:
    owned = _owned_by_packages()
    entries = [str(path) for path in _HOME.iterdir()]
    for root in _ROOTS:
        for directory, directories, names in os.walk(root):
            found = [f"{directory}/{name}" for name in [*directories, *names]]
            entries += [path for path in found if path not in owned and not _is_alternative(path)]
            directories[:] = [name for name in directories if _descends(f"{directory}/{name}")]
    return entries


def _is_alternative(path: str) -> bool:
    """Tell whether a name is one of those that a package gives to one of several programs of a kind."""
    link = Path(path)
    return link.parent == Path("/usr/bin") and link.is_symlink() and link.readlink().parent == Path("/etc/alternatives")


def _descends(path: str) -> bool:
    """Tell whether a directory's content is the host's own. Mounts are listed by themselves."""
    skipped = path in _SKIPPED or path.endswith("/__pycache__") or path.count("/") >= _DEPTH
    return not skipped and not Path(path).is_mount()


def _contents() -> list[str]:
    """List the lines of the shared files that the platform may add to."""
    paths = [Path("/etc/hosts"), Path("/etc/fstab"), Path("/etc/environment"), Path("/root/.docker/config.json")]
    paths += sorted(Path("/etc/sysctl.d").glob("*.conf")) + sorted(Path("/etc/docker").glob("*.json"))
    return [f"{path}: {line}" for path in paths if path.is_file() for line in path.read_text().splitlines()]


def _processes() -> list[str]:
    """List programs by their command lines, but for the kernel's, and for the one that asks and its parents."""
    mine = set()
    pid = os.getpid()
    while pid > 1:
        mine.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in mine:
            try:
                argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                beside = _BESIDE in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if argv != [""] and not beside:
                found.append(" ".join(argv).strip())
    return found


def _mounts() -> list[str]:
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [f"{line[4]} {line[line.index('-') + 1]}" for line in lines]


def _loop_devices() -> list[str]:
    """List loop devices whose file is this host's: the kernel shows those of other containers too."""
    found = []
    for line in _output("losetup", "--list", "--noheadings", "--raw", "--output", "BACK-MAJ:MIN,BACK-INO,BACK-FILE"):
        device, inode, path = line.split(" ", 2)
        path = path.removesuffix(" (deleted)")
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            continue
        if (f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}", str(status.st_ino)) == (device, inode):
            found.append(path)
    return found


def _rules() -> list[str]:
    """List the firewall, but for counters and handles, which change by themselves. Without nft there is none to see."""
    lines = [line.strip() for line in _output("nft", "--stateless", "list", "ruleset")]
    return [line for line in lines if line and not line.startswith("#")]


def _tables() -> list[str]:
    """List nftables' tables by family and name, from the kernel: nft may come with the platform, and stay."""
    request = struct.pack("=IHHII4x", 20, _NFT_GETTABLE, _NLM_F_REQUEST_DUMP, 1, 0)
    found: list[str] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.sendto(request, (0, 0))
        while True:
            answer = netlink.recv(1 << 16)
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    return found
                found.append(f"{_FAMILIES.get(answer[16], answer[16])} {_table_name(answer[20:length])}")
                answer = answer[(length + 3) & ~3 :]


def _table_name(attributes: bytes) -> str:
    """Read NFTA_TABLE_NAME, 1."""
    while attributes:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == 1:
            return attributes[4:length].rstrip(b"\0").decode()
        attributes = attributes[(length + 3) & ~3 :]
    return ""


def _links() -> list[str]:
    """List links, with their alias where that is the platform's."""
    found = []
    for path in Path("/sys/class/net").iterdir():
        alias = (path / "ifalias").read_text().strip() if (path / "ifalias").exists() else ""
        found.append(f"{path.name} {alias}" if alias.startswith("bailey ") else path.name)
    return found


def take() -> Snapshot:
    """Return each kind of thing on this host as a sorted list of lines."""
    parts = {
        "accounts": _accounts(),
        "contents": _contents(),
        "files": _files(),
        "links": _links(),
        "loop devices": _loop_devices(),
        "mounts": _mounts(),
        "processes": _processes(),
        "rules": _rules(),
        "tables": _tables(),
    }
    return {kind: sorted(lines) for kind, lines in parts.items()}


def compare(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield one line for each thing that came or went and that no allowance covers."""
    for kind in sorted(before):
        patterns = [re.compile(pattern) for allowed_kind, pattern, _ in ALLOWED if allowed_kind == kind]
        for sign, lines in (
            ("left behind", _without(after[kind], before[kind])),
            ("gone", _without(before[kind], after[kind])),
        ):
            yield from (f"{kind}: {sign}: {line}" for line in lines if not any(p.fullmatch(line) for p in patterns))


def _without(lines: list[str], taken: list[str]) -> list[str]:
    """Return what is in `lines` more often than in `taken`."""
    return sorted((Counter(lines) - Counter(taken)).elements())


def main(arguments: list[str]) -> int:
    """Take a snapshot, or compare two: the exit status is 1 where they differ."""
    match arguments:
        case ["take"]:
            print(json.dumps(take()))
            return 0
        case ["compare", before, after]:
            differences = list(compare(json.loads(Path(before).read_text()), json.loads(Path(after).read_text())))
            print("\n".join(differences))
            return 1 if differences else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

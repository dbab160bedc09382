"""Root file systems for the tests' containers, made from the distribution's packages and kept as archives.

An archive is named by the hash of its inputs, so a change of packages or hooks makes a new one. The guests get
this machine's package sources, apt settings and the operator's own certificate authorities: behind a proxy that
opens TLS nothing could be installed in them otherwise.

Usage as a program, as root: python3 -m tests.ground.rootfs base|host makes that image in the
tests' engine, which must run.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from .engine import Engine, GroundError, command

CACHE = Path("/var/cache/bailey-test")
AUTHORITIES = Path("/usr/local/share/ca-certificates")
_SOURCES = ("sources.list", "sources.list.d/debian.sources", "sources.list.d/ubuntu.sources")
_APT_SETTINGS = ("Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries")
_LABEL = "bailey.test.inputs"


@dataclass(frozen=True)
class RootFs:
    """What a root file system is made of. `hooks` are shell commands that get its directory as $1."""

    image: str
    packages: tuple[str, ...]
    hooks: tuple[str, ...] = ()
    keep_apt: bool = False

    def arguments(self) -> list[str]:
        """Return mmdebstrap's arguments, but for the archive's name and what follows it."""
        certificates = [f"--customize-hook=copy-in {path} {AUTHORITIES}" for path in sorted(AUTHORITIES.glob("*.crt"))]
        return [
            "--variant=minbase",
            "--format=tar",
            f"--include={','.join(self.packages)}",
            *(["--skip=cleanup/apt"] if self.keep_apt else ["--dpkgopt=path-exclude=/usr/share/doc/*"]),
            *(f"--aptopt={setting}" for setting in _apt_settings()),
            *certificates,
            '--customize-hook=chroot "$1" update-ca-certificates',
            *(f"--customize-hook={hook}" for hook in self.hooks),
            codename(),
        ]

    def inputs(self) -> str:
        """Return the hash of all that the archive depends on, but for the packages' versions."""
        total = hashlib.sha256("\0".join(self.arguments()).encode())
        for path in [*package_sources(), *sorted(AUTHORITIES.glob("*.crt"))]:
            total.update(path.read_bytes())
        return total.hexdigest()[:16]

    def archive(self) -> Path:
        """Make the archive unless it is in the cache, where older ones of the same image give way to it."""
        stem = self.image.replace("/", "-").replace(":", "-")
        path = CACHE / f"{stem}-{self.inputs()}.tar"
        if not path.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            for old in CACHE.glob(f"{stem}-*.tar"):
                old.unlink()
            unfinished = path.with_suffix(".part")
            sources = [str(source) for source in package_sources()]
            command(["mmdebstrap", "--quiet", *self.arguments(), str(unfinished), *sources], timeout=900)
            unfinished.rename(path)
        return path

    def ensure(self, engine: Engine) -> bool:
        """Import the archive into the engine unless its image is there already; say whether it was not."""
        query = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
        if engine.docker("image", "inspect", "--format", query, self.image, check=False).strip() == self.inputs():
            return False
        label = f"LABEL {_LABEL}={self.inputs()}"
        engine.docker("import", "--change", label, str(self.archive()), self.image, timeout=300)
        return True


def codename() -> str:
    """Return the name of this machine's release."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return release["VERSION_CODENAME"].strip('"')


def package_sources() -> list[Path]:
    """List the distribution's own package sources on this machine."""
    paths = [Path("/etc/apt", name) for name in _SOURCES]
    return [path for path in paths if path.exists() and path.read_text().strip()]


def _apt_settings() -> list[str]:
    """Return how this machine reaches its package sources: proxies, retries, checks of dates."""
    lines = command(["apt-config", "dump"]).splitlines()
    return [line for line in lines if line.startswith(_APT_SETTINGS) and not line.endswith('"";')]


BASE = RootFs("bailey-test/base:1", ("ca-certificates", "iproute2", "procps", "python3"))

# What the roles install is fetched into the host's apt cache, not installed: the roles still have to do that,
# only the download is spared. A package that is missing in this list costs time, nothing else.
_FETCHED = (
    "apache2-utils btrfs-progs ca-certificates crun docker-registry docker.io iptables jq libnftables1 mmdebstrap "
    "nftables openssl python3-docker runit ulogd2 ulogd2-json xfsprogs yara"
)
# What a Debian server has from its installer: an init, Python for Ansible, apt's binding for its modules.
_SERVER = "ca-certificates dbus iproute2 kmod procps python3 python3-apt systemd systemd-sysv tini udev"
HOST = RootFs(
    "bailey-test/host:1",
    tuple(_SERVER.split()),
    (
        f'chroot "$1" apt-get -qq install --download-only --no-install-recommends -y {_FETCHED}',
        # The name that an installer gives it, and that the roles look for.
        'cd "$1/etc/apt/sources.list.d" && for file in 0000*.sources; do mv "$file" "${file#0000}"; done',
        # Neither belongs to a container: the one waits for hardware, the others would fight over its consoles.
        'chroot "$1" systemctl mask systemd-udevd.service systemd-udev-trigger.service getty@tty1.service',
        'rm -f "$1/usr/sbin/policy-rc.d"',
    ),
    keep_apt=True,
)
IMAGES = {"base": BASE, "host": HOST}


def main(arguments: list[str]) -> int:
    """Make one of the images and say whether it was new."""
    if len(arguments) != 1 or arguments[0] not in IMAGES:
        print(__doc__, file=sys.stderr)
        return 2
    image = IMAGES[arguments[0]]
    print("imported" if image.ensure(Engine()) else "present", image.image)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except GroundError as error:
        sys.exit(str(error))

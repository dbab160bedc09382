"""AppArmor profiles of the platform's own: a file that is loaded at boot, and the same in the living kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences
from ..errors import BaileyError, CommandError, EnforcementError, HostError, InvalidValueError, UnsupportedError
from ..host.apparmor import ENFORCING, AppArmor, Digest, processes_under
from ..host.apparmor_policy import CompiledProfile
from ..host.files import read_text, sync_directory, write_atomic

ENFORCED, COMPLAINING, ABSENT = STATES = ("enforced", "complaining", "absent")
CACHE = Path("/var/cache/apparmor")
THIS_HOST = AppArmor()

# A file without it is somebody else's: a package's, or one that was written by hand.
_HEADER = "# Managed by Bailey: changes are lost.\n"
# Names with a dot are left out: those of some endings (.dpkg-new, .orig, ...) are passed over at boot.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass
class Managed:
    """What was changed, or in check mode would be, and what the kernel holds of the profile NAME then.

    `mode` is the kernel's word for it, `sha` its hash; both are None where it is not loaded, `sha` also where the
    kernel keeps none.
    """

    differences: Differences = field(default_factory=Differences)
    warnings: list[str] = field(default_factory=list)
    loaded: bool = False
    mode: str | None = None
    sha: str | None = None
    processes: list[int] = field(default_factory=list)


def read_profile(path: Path) -> str:
    """Return the text of a profile that lies in a file of the host; raise InvalidValueError where it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValueError("path", str(path), f"a file with a profile's text: {error}") from error


def manage(
    name: str,
    state: str,
    text: str = "",
    *,
    check: bool,
    host: AppArmor = THIS_HOST,
    cache: Path = CACHE,
) -> Managed:
    """Bring the profile `name`, and those that its text defines beside it, to their state; read the kernel back.

    A text may define further profiles whose names begin with NAME and a hyphen, and children of all of them.
    Raises InvalidValueError for a text that is not fit, before anything changes; UnsupportedError where the kernel
    has no AppArmor; HostError where it is not ours to change, or a process still runs under what would go;
    EnforcementError where the kernel does not hold what was loaded. What failed half-way is put back.
    In check mode the parser may be missing: its package may not be installed yet.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError("name", name, "1 to 100 letters, digits, hyphens and underscores")
    if state not in STATES:
        raise InvalidValueError("state", state, f"one of {', '.join(STATES)}")
    file = ProfileFile(name, host, cache)
    file.refuse_what_is_not_ours()
    done = Managed()
    reason = host.missing()
    if state == ABSENT:
        _remove(file, done, in_kernel=reason is None, check=check)
    elif reason is not None:
        raise UnsupportedError("state", state, f"{reason}. Declare docker_lsm: none to run tenants without AppArmor")
    else:
        _load(file, _HEADER + text, done, complain=state == COMPLAINING, check=check)
    if reason is None:
        held = host.digests().get(name)
        done.mode = host.loaded().get(name)
        done.loaded = done.mode is not None
        done.sha = held.value if held else None
        done.processes = processes_under(name, host.proc)
    return done


@dataclass(frozen=True)
class ProfileFile:
    """A profile's file, and the link that has the parser load it in complain mode, at boot too."""

    name: str
    host: AppArmor
    cache: Path

    @property
    def path(self) -> Path:
        """Return where the file is: in the top-level directory, for those below it are not read at boot."""
        return self.host.directory / self.name

    @property
    def link(self) -> Path:
        """Return the link's place; apparmor_parser(8) asks only whether something is readable there."""
        return self.host.directory / "force-complain" / self.name

    @property
    def complains(self) -> bool:
        """Say whether the link is there."""
        return self.link.is_symlink() or self.link.exists()

    def refuse_what_is_not_ours(self) -> None:
        """Raise HostError where the name is taken by a file or directory of somebody else's."""
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise HostError(f"name: {self.path} is no ordinary file, so no profile of this name can be installed")
        text = read_text(self.path)
        if text is not None and not text.startswith(_HEADER):
            raise HostError(f"name: {self.path} is not Bailey's; give the profile another name, or remove the file")

    def names(self) -> set[str]:
        """Return the full names of the profiles in the file; the file's own name where the parser does not take it."""
        text = read_text(self.path)
        if text is None:
            return set()
        try:
            return {profile.name for profile in self.host.compile(text)}
        except CommandError:
            return {self.name}

    def write(self, text: str | None, *, complain: bool) -> None:
        """Write or remove file and link, each where it differs."""
        if text is None:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        elif read_text(self.path) != text:
            write_atomic(self.path, text.encode(), mode=0o644)
        if self.complains and not complain:
            self.link.unlink()
        elif complain and not self.complains:
            self.link.parent.mkdir(mode=0o755, exist_ok=True)
            self.link.symlink_to(Path("..") / self.name)

    def drop_caches(self) -> None:
        """Remove what the parser keeps of the file, one for each kernel's features."""
        for path in self.cache.glob(f"*/{self.name}"):
            path.unlink(missing_ok=True)


def _load(file: ProfileFile, text: str, done: Managed, *, complain: bool, check: bool) -> None:
    former = read_text(file.path)
    try:
        wanted = _compile(file, text, complain=complain)
        former_names = {profile.name for profile in wanted} if former == text else file.names()
    except HostError as error:
        if not check:
            raise
        done.warnings.append(f"the profile was not parsed: {error}")
        done.differences.add(str(file.path), former, text)
        return
    before = file.host.loaded()
    digests = file.host.digests()
    _refuse_others(file, wanted, before, digests, owned=former_names)
    gone = sorted(name for name in former_names - {profile.name for profile in wanted} if name in before)
    _refuse_running(gone, file.host, "the text defines it no longer")
    done.differences.add(str(file.path), former, text)
    done.differences.add(str(file.link), file.complains, complain)
    _compare(wanted, before, digests, done.differences)
    for name in gone:
        done.differences.add(f"kernel.{name}", before[name], "absent")
    unhashed = [profile.name for profile in wanted if profile.name in before and profile.name not in digests]
    if done.differences and not check:
        with _put_back(file, wanted, before, former):
            file.write(text, complain=complain)
            file.host.load(file.path)
            for name in gone:
                file.host.unload(name)
            unhashed = _read_back(wanted, gone, file.host)
    if unhashed:
        done.warnings.append(
            f"the kernel keeps no hash of {', '.join(unhashed)} (its parameter hash_policy): that it holds these very"
            " rules cannot be seen, only that profiles of this name and mode are loaded"
        )


def _compile(file: ProfileFile, text: str, *, complain: bool) -> list[CompiledProfile]:
    """Return the text's profiles, all of them fit to be loaded under the file's name."""
    try:
        profiles = file.host.compile(text, complain=complain)
    except CommandError as error:
        allowed = f"a text that apparmor_parser takes; it says: {error.stderr.strip()}"
        raise InvalidValueError("content", file.name, allowed) from error
    names = [profile.name for profile in profiles]
    if file.name not in names:
        raise InvalidValueError("content", names, f"one of its profiles has to be {file.name}")
    for name in names:
        family = name.partition("//")[0]
        if family != file.name and not family.startswith(f"{file.name}-"):
            raise InvalidValueError("content", name, f"further profiles whose names begin with {file.name}-")
    for profile in profiles:
        if not complain and profile.mode not in ENFORCING:
            raise InvalidValueError(
                "content", profile.name, f"profiles without flags=({profile.mode}), for they are to be enforced"
            )
    return profiles


def _refuse_others(
    file: ProfileFile,
    wanted: Sequence[CompiledProfile],
    loaded: Mapping[str, str],
    digests: Mapping[str, Digest],
    *,
    owned: set[str],
) -> None:
    """Raise HostError for what would take another's place, or would not be loaded at boot."""
    disabled = file.host.directory / "disable" / file.name
    if disabled.is_symlink() or disabled.exists():
        raise HostError(f"name: {disabled} has the parser pass the profile over; remove it first")
    for profile in wanted:
        if profile.name in loaded and profile.name not in owned and not _is_held(profile, loaded, digests):
            raise HostError(
                f"content: a profile {profile.name} is loaded that does not come from {file.path};"
                " give yours another name, or unload the other one"
            )


def _refuse_running(names: Sequence[str], host: AppArmor, why: str) -> None:
    """Raise HostError where a process runs under what is to be unloaded: it would be unconfined from then on."""
    for name in names:
        pids = processes_under(name, host.proc)
        if pids:
            listed = ", ".join(map(str, pids))
            raise HostError(f"the profile {name} binds running processes, and {why}: {listed}", pids=pids)


def _is_held(profile: CompiledProfile, loaded: Mapping[str, str], digests: Mapping[str, Digest]) -> bool:
    held = digests.get(profile.name)
    same = held is not None and held.value == profile.digest(held.algorithm)
    return same and loaded.get(profile.name) == profile.mode


def _compare(
    wanted: Sequence[CompiledProfile], loaded: Mapping[str, str], digests: Mapping[str, Digest], found: Differences
) -> None:
    for profile in wanted:
        found.add(f"kernel.{profile.name}", loaded.get(profile.name, "absent"), profile.mode)
        held = digests.get(profile.name)
        if held is not None:
            found.add(f"kernel.{profile.name}.{held.algorithm}", held.value, profile.digest(held.algorithm))


def _read_back(wanted: Sequence[CompiledProfile], gone: Sequence[str], host: AppArmor) -> list[str]:
    """Return the profiles of which the kernel keeps no hash; raise EnforcementError for what it does not hold."""
    loaded, digests = host.loaded(), host.digests()
    found = Differences()
    _compare(wanted, loaded, digests, found)
    for name in gone:
        found.add(f"kernel.{name}", loaded.get(name, "absent"), "absent")
    if found:
        parts = [f"{item.path} is {item.before} and not {item.after}" for item in found]
        raise EnforcementError(f"the kernel does not hold what was loaded: {'; '.join(parts)}")
    return [profile.name for profile in wanted if profile.name not in digests]


@contextmanager
def _put_back(
    file: ProfileFile, wanted: Sequence[CompiledProfile], before: Mapping[str, str], former: str | None
) -> Iterator[None]:
    """Bring file, link and kernel back to what was, where the body fails."""
    complained = file.complains
    try:
        yield
    except BaseException as error:
        left = list(_restore(file, wanted, before, former, complain=complained))
        if left:
            raise HostError(f"{error}; and it could not be put back: {'; '.join(left)}") from error
        raise


def _restore(
    file: ProfileFile,
    wanted: Sequence[CompiledProfile],
    before: Mapping[str, str],
    former: str | None,
    *,
    complain: bool,
) -> Iterator[str]:
    """Do what can be done, and yield what could not."""
    try:
        file.write(former, complain=complain)
        if former is not None:
            file.host.load(file.path)
    except (BaileyError, OSError) as error:
        yield str(error)
    loaded = file.host.loaded()
    for name in (profile.name for profile in wanted if "//" not in profile.name):
        if name in loaded and name not in before:
            try:
                file.host.unload(name)
            except HostError as error:
                yield str(error)


def _remove(file: ProfileFile, done: Managed, *, in_kernel: bool, check: bool) -> None:
    former = read_text(file.path)
    loaded = file.host.loaded() if in_kernel else {}
    names = file.names() | {file.name} if loaded else set()
    unload = sorted(name for name in names if name in loaded and "//" not in name)  # children go with their parents
    _refuse_running(unload, file.host, "would leave them unconfined")
    for name in unload:
        done.differences.add(f"kernel.{name}", loaded[name], "absent")
    done.differences.add(str(file.path), former, None)
    done.differences.add(str(file.link), file.complains, False)
    if check or not done.differences:
        return
    for name in unload:
        file.host.unload(name)
    left = sorted(set(unload) & file.host.loaded().keys())
    if left:
        raise EnforcementError(f"the kernel still holds {', '.join(left)}")
    file.write(None, complain=False)
    file.drop_caches()

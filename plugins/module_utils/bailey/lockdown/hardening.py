"""Bringing a host's kernel to what is declared, now and after a reboot, and taking that back.

Whatever is changed is written down first, with what was there before: see record.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences
from ..errors import EnforcementError, UnsupportedError
from ..host.files import read_text, write_atomic
from ..host.runit import remove_if_empty
from ..host.sysctl import contradictions, render
from .declaration import Declaration, parse_declaration
from .features import FEATURES
from .grsec import LOCK, check_programs, is_locked, read_flags, write_flags
from .grub import Grub
from .kernel import Kernel
from .model import Parameter, Row, Status, Sysctl, dotted, table
from .modules import render_denial
from .record import Changed, Record, read_record, write_record
from .survey import Survey

_HEADER = "# Managed by Bailey: changes are lost. docs/hardening.md tells what each of these stands for.\n"
# What cannot be taken back before a reboot, whatever the kernel says to it.
_LASTING = {item.place for feature in FEATURES.values() for item in feature.sysctls() if item.lasting} | {LOCK}
_LIVE_ONLY = {item.place for feature in FEATURES.values() for item in feature.sysctls() if item.live_only}


@dataclass
class Hardened:
    """What was changed, or in check mode would be, and what the host then holds of each feature."""

    differences: Differences = field(default_factory=Differences)
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def table(self) -> str:
        """Return the report as text."""
        return table(self.rows)

    @property
    def summary(self) -> list[str]:
        """Return how many features are enforced, and a line for each one that is not."""
        rest = [row for row in self.rows if row.status is not Status.ENFORCED]
        head = f"{len(self.rows) - len(rest)} of {len(self.rows)} features are enforced"
        return [head, *(f"{row.feature}: {row.status.value}: {row.reason}" for row in rest)]


class Places:
    """The files of a host below `root`. The drop-in's name makes it the last but the tenants' network's own."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.sysctls = root / "etc/sysctl.d/zy-bailey-hardening.conf"
        self.modules = root / "etc/modprobe.d/zz-bailey.conf"
        self.record = root / "var/lib/bailey/hardening.json"


def harden(
    given: Mapping[str, object], *, check: bool, root: Path = Path("/"), kernel: Kernel | None = None
) -> Hardened:
    """Bring the host to a declaration, given by the options' names, and report each feature as the kernel holds it.

    Raises InvalidValueError for the first value that is wrong and UnsupportedError for a required feature that this
    host is known not to have, both before anything changes; EnforcementError where the kernel turns out not to take
    one, after what was set is put back; HostError where a file or GRUB's menu cannot be written.
    """
    declared = parse_declaration(given)
    work = _Work(declared, Places(root), kernel or Kernel(root))
    check_programs("pax_flags", declared.pax_flags, root)
    work.plan()
    if not check:
        work.carry_out()
    return work.done


class _Work:
    """One run over one host."""

    def __init__(self, declared: Declaration, places: Places, kernel: Kernel) -> None:
        self.declared, self.places, self.kernel = declared, places, kernel
        self.grub = Grub(places.root)
        self.record, self.former = read_record(places.record), read_record(places.record)
        self.refused = self.record.refused_since(kernel.boot)
        self.done = Hardened()
        self.ours = {place: item.ours for place, item in self.record.sysctls.items()}
        self.survey = self._survey({}, {})
        self.targets = dict(self._targets())
        self.flags = declared.pax_flags if kernel.is_grsecurity else {}

    def plan(self) -> None:
        """Find what differs, and what the host will hold."""
        differences = self.done.differences
        for place, value in self._to_set().items():
            differences.add(dotted(place), self.kernel.read(place), value)
        for place, before in self._to_put_back().items():
            differences.add(dotted(place), self.kernel.read(place), before)
        for program, (before_flags, after) in self._flags_to_set().items():
            differences.add(f"{program}: PaX flags", before_flags, after)
        for path, text in self._files().items():
            differences.add(str(path), read_text(path), text)
        self._warn_of_contradictions()
        assumed = {**self._to_set(), **self._to_put_back()}
        self.done.rows = self._survey(assumed, self.flags).rows()
        missing = self._missing()
        if missing:
            raise UnsupportedError("required", missing[0].feature, missing[0].reason)

    def carry_out(self) -> None:
        """Set what differs, read it back, and only then write what outlives a reboot."""
        to_put_back = self._to_put_back()
        self._note()
        changed = self._set_live()
        self._set_flags()
        self._lock()
        self.done.rows = self._survey({}, {}).rows()
        missing = self._missing()
        if missing:
            left = [place for place, before in changed.items() if not self._put_back(place, before)]
            self.record = self.former
            self._keep_record()
            stays = f"; until a reboot this stays: {', '.join(map(dotted, left))}" if left else ""
            raise EnforcementError(f"required: {missing[0].feature} is not in force: {missing[0].reason}{stays}")
        for place, before in to_put_back.items():
            self._give_back(place, before)
        self._write_files()
        self._keep_record()

    def _survey(self, assumed: Mapping[str, str], flags: Mapping[str, str]) -> Survey:
        return Survey(self.kernel, self.grub, self.declared, assumed, flags, self.refused, self.ours)

    def _missing(self) -> list[Row]:
        """Return the required features that are not in force, nor will be after a reboot."""
        held = (Status.ENFORCED, Status.NEEDS_REBOOT)
        rows = {row.feature: row for row in self.done.rows}
        foreign = "a kernel with grsecurity is reported by its own settings"
        required = [
            rows.get(name, Row(name, (), Status.UNSUPPORTED, foreign)) for name in sorted(self.declared.required)
        ]
        return [row for row in required if row.status not in held]

    def _targets(self) -> Iterator[tuple[str, str]]:
        """Yield each setting that this kernel has and that is to hold; what nothing can follow comes last."""
        wanted = {item.place: self.survey.wanted(item) for item in self.survey.used() if isinstance(item, Sysctl)}
        if self.kernel.is_grsecurity:
            wanted.update(self.declared.policy)
        wanted.update(self.survey.own_sysctls())
        if self.declared.locks and all(self._is_settable(item) for item in self.declared.policy.items()):
            wanted[LOCK] = "1"
        for item in sorted(wanted.items(), key=lambda item: (item[0] == LOCK, item[0] in _LIVE_ONLY)):
            if self._is_settable(item):
                yield item

    def _is_settable(self, item: tuple[str, str]) -> bool:
        place, value = item
        there = self.kernel.may_set(place) and self.kernel.read(place) is not None
        return there and self.refused.get(place) != value

    def _to_set(self) -> dict[str, str]:
        """Return what does not hold; not what a lock keeps until the next boot, where the drop-in sets it."""
        locked = is_locked(self.kernel)
        return {
            place: value
            for place, value in self.targets.items()
            if self.kernel.read(place) != value and not (locked and place.startswith("kernel/grsecurity/"))
        }

    def _to_put_back(self) -> dict[str, str]:
        """Return what was set by an earlier declaration, is not declared any more, and nobody has changed since."""
        return {
            place: item.before
            for place, item in self.record.sysctls.items()
            if place not in self.targets
            and item.before is not None
            and place not in (*_LASTING, *self.refused)
            and self.kernel.read(place) == item.ours != item.before
        }

    def _flags_to_set(self) -> dict[str, tuple[str | None, str | None]]:
        """Return the programs whose PaX flags are not as declared, or are an earlier declaration's."""
        found: dict[str, tuple[str | None, str | None]] = {
            path: (self._flags_of(path), wanted)
            for path, wanted in self.flags.items()
            if self._flags_of(path) != wanted
        }
        for path, item in self.record.pax.items():
            if path not in self.flags and self._flags_of(path) == item.ours:
                found[path] = (item.ours, item.before)
        return found

    def _flags_of(self, path: str) -> str | None:
        return read_flags(self.places.root / path.lstrip("/"))

    def _files(self) -> dict[Path, str | None]:
        """Return each file with what it is to hold, None where it is not to be there."""
        lasting = {place: value for place, value in self.targets.items() if place not in _LIVE_ONLY}
        wants = self.declared.wants(FEATURES["module_autoload"]) and bool(self.declared.denied_modules)
        denies = wants and self.kernel.has_modules and not self.kernel.is_shared
        return {
            self.places.sysctls: render(lasting, _HEADER) if lasting else None,
            self.places.modules: render_denial(self.declared.denied_modules) if denies else None,
            self.grub.drop_in: self.grub.text(self._words()),
        }

    def _words(self) -> list[str]:
        """Return what the kernel is to be told when it boots: what it knows and does not do by itself."""
        if not self.declared.passes_parameters or self.kernel.is_shared:
            return []
        return [
            item.text
            for item in (*self.survey.used(), *self.declared.parameters)
            if isinstance(item, Parameter)
            and not self.survey.is_default(item)
            and not (item.needs and self.kernel.is_built_with(item.needs) is False)
        ]

    def _warn_of_contradictions(self) -> None:
        against = contradictions(self.places.sysctls.name, self.targets, self.places.root)
        self.done.warnings += [f"{line} undoes the hardening at the next boot" for line in against]

    def _note(self) -> None:
        """Write down what is about to change, before it does."""
        for place, value in self._to_set().items():
            self.record.note(place, self.kernel.read(place), value)
        for path, (before, after) in self._flags_to_set().items():
            if after is not None and path in self.flags:
                former = self.record.pax.get(path)
                self.record.pax[path] = Changed(before if former is None else former.before, after)
        for file, text in self._files().items():
            if text is not None and not file.parent.exists():
                self.record.directories.append(str(file.parent.relative_to(self.places.root)))
        self.record.refused, self.record.boot = dict(self.refused), self.kernel.boot
        self._keep_record()

    def _keep_record(self) -> None:
        if self.places.record.exists() or self.record.refused or not self.record.is_empty:
            write_record(self.places.record, self.record)

    def _set_live(self) -> dict[str, str]:
        """Set each setting but the lock; return those that took, with what they were before."""
        changed: dict[str, str] = {}
        for place, value in self._to_set().items():
            before = self.kernel.read(place)
            if place == LOCK or before is None:
                continue
            if self._set(place, value):
                changed[place] = before
                continue
            # What the kernel made of it is not what anybody asked for.
            if self.kernel.read(place) != before:
                self._set(place, before)
            self._refuse(place, value)
        return changed

    def _set(self, place: str, value: str) -> bool:
        try:
            self.kernel.write(place, value)
        except OSError:
            return False
        return self.kernel.read(place) == value

    def _refuse(self, place: str, value: str) -> None:
        self.refused[place] = self.record.refused[place] = value
        self._leave(place)
        self.done.warnings.append(
            f"the kernel does not take {dotted(place)} = {value}; it keeps {self.kernel.read(place)}"
        )

    def _leave(self, place: str) -> None:
        """Forget a setting that was about to be changed, and was not."""
        del self.targets[place]
        if place in self.former.sysctls:
            self.record.sysctls[place] = self.former.sysctls[place]
        else:
            self.record.sysctls.pop(place, None)
        self._drop_difference(dotted(place))

    def _drop_difference(self, path: str) -> None:
        self.done.differences.items = [item for item in self.done.differences if item.path != path]

    def _set_flags(self) -> None:
        for path, (_, after) in self._flags_to_set().items():
            try:
                write_flags(self.places.root / path.lstrip("/"), after)
            except OSError as error:
                self._drop_difference(f"{path}: PaX flags")
                self.record.pax.pop(path, None)
                self.done.warnings.append(f"{path}: its PaX flags cannot be set: {error.strerror}")
            if path not in self.flags:
                self.record.pax.pop(path, None)

    def _lock(self) -> None:
        """Lock grsecurity's settings where all of them hold; it cannot be taken back before a reboot."""
        if LOCK not in self._to_set():
            return
        rows = self._survey({}, {}).rows()
        owned = ("grsecurity.", "pax_flags.")
        if any(row.status is not Status.ENFORCED for row in rows if row.feature.startswith(owned)):
            self._leave(LOCK)
        elif not self._set(LOCK, "1"):
            self._refuse(LOCK, "1")

    def _put_back(self, place: str, before: str) -> bool:
        return place not in _LASTING and self._set(place, before)

    def _give_back(self, place: str, before: str) -> None:
        if not self._put_back(place, before):
            self.done.warnings.append(f"{dotted(place)} stays as it is until a reboot")
        self.record.sysctls.pop(place, None)

    def _write_files(self) -> None:
        files = self._files()
        for path in (self.places.sysctls, self.places.modules):
            _bring(path, files[path])
        self.grub.write(files[self.grub.drop_in])


def soften(*, check: bool, root: Path = Path("/"), kernel: Kernel | None = None) -> Hardened:
    """Put back what was changed and nobody has changed since, and remove the files.

    What lasts until a reboot is told in the warnings. Raises HostError where GRUB's menu cannot be made anew.
    """
    kernel, places, done = kernel or Kernel(root), Places(root), Hardened()
    record, grub = read_record(places.record), Grub(root)
    for place, item in record.sysctls.items():
        _restore(kernel, place, item, done, check=check)
    for path, item in record.pax.items():
        program = root / path.lstrip("/")
        if read_flags(program) != item.ours:
            continue
        if done.differences.add(f"{path}: PaX flags", item.ours, item.before) and not check:
            write_flags(program, item.before)
    for file in (places.sysctls, places.modules, grub.drop_in, places.record):
        done.differences.add(str(file), "present" if file.exists() else "absent", "absent")
    if not check:
        _remove(places, grub, record)
    return done


def _restore(kernel: Kernel, place: str, item: Changed, done: Hardened, *, check: bool) -> None:
    """Put a setting back, unless somebody has changed it since or the kernel keeps it."""
    if item.before is None or item.before == item.ours or kernel.read(place) != item.ours:
        return
    if place in _LASTING or (place.startswith("kernel/grsecurity/") and is_locked(kernel)):
        done.warnings.append(f"{dotted(place)} stays {item.ours} until a reboot")
        return
    done.differences.add(dotted(place), item.ours, item.before)
    if check:
        return
    try:
        kernel.write(place, item.before)
    except OSError as error:
        done.warnings.append(f"{dotted(place)} cannot be put back to {item.before}: {error.strerror}")


def _remove(places: Places, grub: Grub, record: Record) -> None:
    for path in (places.sysctls, places.modules):
        path.unlink(missing_ok=True)
    grub.write(None)
    for directory in record.directories:
        remove_if_empty(places.root / directory)
    places.record.unlink(missing_ok=True)
    remove_if_empty(places.record.parent)


def _bring(path: Path, text: str | None) -> None:
    """Bring a file to a text, or to not being there; one that is as it should be is not touched."""
    if text is None:
        path.unlink(missing_ok=True)
    elif read_text(path) != text:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(path, text.encode(), mode=0o644)

"""What is looked for, and what follows: /etc/bailey/scan.json, read once into values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import HostError, InvalidValueError
from ..fields import Fields
from ..names import parse_name
from ..units import parse_count, parse_duration, parse_size

VERSION = 1

YARA, YARA_FILE = "yara-match", "yara-file"
DELETED, MEMFD = "deleted-executable", "memfd-executable"
MINER, CONNECTIONS = "miner-behaviour", "connection-scan"
SETUID, FOREIGN = "setuid-file", "foreign-process"
NAMES = (YARA, YARA_FILE, DELETED, MEMFD, MINER, CONNECTIONS, SETUID, FOREIGN)

IGNORE, REPORT, FREEZE, KILL, STOP = "ignore", "report", "freeze", "kill", "stop"
ACTIONS = (IGNORE, REPORT, FREEZE, KILL, STOP)
# What these find is no process, so that there is none to kill.
_WITHOUT_PROCESS = (YARA_FILE, CONNECTIONS, SETUID)
# What may be said of a rule beside its action and its exceptions.
_THRESHOLDS: Mapping[str, tuple[str, ...]] = {
    MINER: ("cpu", "ports", "window"),
    CONNECTIONS: ("destinations", "window"),
}
# Where miners' pools listen by custom. Ports that web applications have too, 8080 say, are not among them.
POOL_PORTS = frozenset({3333, 4444, 5555, 6666, 7777, 9999, 14433, 14444, 45560, 45700})

_FIELDS = (
    "version", "interval", "cpu_share", "timeout", "file_max", "memory_max", "entries", "files", "rules_dir",
    "access_log", "rules",
)  # fmt: skip
_PORT_MAX = 65_535


@dataclass(frozen=True)
class Rule:
    """One rule. `spared` names the instances that it does not concern.

    `cpu` is a share of the instance's processors, `ports` are a pool's, `window` is in seconds, and `destinations` is
    how many a scan reaches out to at least; each rule reads its own of them.
    """

    name: str
    action: str = REPORT
    spared: frozenset[str] = frozenset()
    cpu: float = 0.8
    ports: frozenset[int] = POOL_PORTS
    window: float = 10.0
    destinations: int = 100

    def concerns(self, instance: str) -> bool:
        """Say whether it is looked for in an instance."""
        return self.action != IGNORE and instance not in self.spared


def _default_rules() -> dict[str, Rule]:
    rules = {name: Rule(name) for name in NAMES}
    rules[CONNECTIONS] = Rule(CONNECTIONS, window=300.0)
    # Daemons that leave their parents are ordinary in many images: who wants to know of them asks for it.
    rules[FOREIGN] = Rule(FOREIGN, IGNORE)
    return rules


@dataclass(frozen=True)
class Settings:
    """All of a host's scan.

    `interval` and `timeout` are in seconds, `cpu_share` is of one processor, `file_max` and `memory_max` in bytes: of
    a file that is read, and of one process's memory. `entries` and `files` bound, for each instance and scan, how many
    directory entries are looked at, and how many files among them are read.
    """

    interval: float = 300.0
    cpu_share: float = 0.2
    timeout: float = 240.0
    file_max: int = 128 << 20
    memory_max: int = 8 << 20
    entries: int = 20_000
    files: int = 50
    rules_dir: Path = Path("/etc/bailey/yara")
    access_log: Path = Path("/var/log/bailey/access.json")
    rules: Mapping[str, Rule] = field(default_factory=_default_rules)


def parse_settings(content: object, where: str) -> Settings:
    """Read the file's content; what it does not say has its default.

    Raises InvalidValueError naming the first field that is unknown or not valid.
    """
    fields = Fields(where, content, _FIELDS)
    parse_count(fields.path("version"), fields.get("version", VERSION), VERSION, VERSION)
    default = Settings()
    interval = _seconds(fields, "interval", default.interval, 10, 86_400)
    settings = Settings(
        interval=interval,
        cpu_share=_share(fields, "cpu_share", default.cpu_share),
        timeout=_seconds(fields, "timeout", min(default.timeout, interval), 5, 3600),
        file_max=_size(fields, "file_max", default.file_max, 2 << 30),
        memory_max=_size(fields, "memory_max", default.memory_max, 1 << 30),
        entries=parse_count(fields.path("entries"), fields.get("entries", default.entries), 100, 10_000_000),
        files=parse_count(fields.path("files"), fields.get("files", default.files), 0, 100_000),
        rules_dir=_path(fields, "rules_dir", default.rules_dir),
        access_log=_path(fields, "access_log", default.access_log),
        rules=parse_rules(fields.get("rules", {}), fields.path("rules"), default.rules),
    )
    if settings.timeout > settings.interval:
        raise InvalidValueError(fields.path("timeout"), settings.timeout, "at most interval")
    return settings


def read_settings(path: Path) -> Settings:
    """Read the file. Raises HostError where it cannot be read, InvalidValueError where a value of it is not valid."""
    try:
        content: object = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"{path}: the scan's settings cannot be read ({error}); role scan writes them") from error
    return parse_settings(content, str(path))


def parse_rules(value: object, where: str, base: Mapping[str, Rule]) -> dict[str, Rule]:
    """Lay rules, as actions or as mappings, over others: what is not said of a rule stays as it is in `base`."""
    fields = Fields(where, value, NAMES)
    return {name: _parse_rule(fields, name, rule) if name in fields else rule for name, rule in base.items()}


def with_rules(settings: Settings, overrides: object) -> Settings:
    """Return settings with other rules, for one scan."""
    return replace(settings, rules=parse_rules(overrides, "rules", settings.rules))


def _parse_rule(above: Fields, name: str, base: Rule) -> Rule:
    given = above.get(name)
    path = above.path(name)
    mapping = {"action": given} if isinstance(given, str) else given
    fields = Fields(path, mapping, ("action", "except", *_THRESHOLDS.get(name, ())))
    allowed = tuple(action for action in ACTIONS if action != KILL or name not in _WITHOUT_PROCESS)
    ports = base.ports
    if "ports" in fields:
        listed = [(f"{fields.path('ports')}[{at}]", port) for at, port in enumerate(fields.items("ports"))]
        ports = frozenset(parse_count(where, port, 1, _PORT_MAX) for where, port in listed)
    return Rule(
        name,
        action=fields.choice("action", allowed, base.action),
        spared=_instances(fields) if "except" in fields else base.spared,
        cpu=_share(fields, "cpu", base.cpu),
        ports=ports,
        window=_seconds(fields, "window", base.window, 1, 3600),
        destinations=parse_count(fields.path("destinations"), fields.get("destinations", base.destinations), 2, 10_000),
    )


def _instances(fields: Fields) -> frozenset[str]:
    path = fields.path("except")
    return frozenset(parse_name(f"{path}[{at}]", name) for at, name in enumerate(fields.items("except")))


def _share(fields: Fields, key: str, default: float) -> float:
    value = fields.get(key, default)
    try:
        share = float(str(value))
    except ValueError:
        share = 0.0
    if isinstance(value, bool) or not 0.01 <= share <= 1:
        raise InvalidValueError(fields.path(key), value, "a share from 0.01 to 1, such as 0.2")
    return share


def _seconds(fields: Fields, key: str, default: float, minimum: float, maximum: float) -> float:
    """Read whole seconds as a number, or a duration with a unit."""
    value = fields.get(key, default)
    path = fields.path(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        text = str(value).strip()
        seconds = float(text) if text.isdecimal() and text.isascii() else parse_duration(path, value)
    if not minimum <= seconds <= maximum:
        raise InvalidValueError(path, value, f"from {minimum:g} to {maximum:g} seconds")
    return seconds


def _size(fields: Fields, key: str, default: int, maximum: int) -> int:
    size = parse_size(fields.path(key), fields.get(key, f"{default}B"), 4096)
    if size > maximum:
        raise InvalidValueError(fields.path(key), fields.get(key), f"at most {maximum >> 20}M")
    return size


def _path(fields: Fields, key: str, default: Path) -> Path:
    text = fields.text(key, str(default))
    if not text.startswith("/"):
        raise InvalidValueError(fields.path(key), text, "an absolute path")
    return Path(text)

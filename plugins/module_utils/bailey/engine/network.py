"""What a host's network is told to be: the agent's settings, and the kernel's, now and after a reboot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..changes import Differences, Json
from ..errors import EnforcementError, HostError
from ..host.bridge import FORWARDING, apply_settings, broken_settings, settings_of
from ..host.files import read_text, write_atomic
from ..host.runit import remove_if_empty
from ..host.sysctl import contradictions, render
from ..network_settings import VERSION, parse_network_settings
from .claim import DEFAULT_PLACES, read_record
from .claim import Places as EnginePlaces
from .kernel import forward_no_more_than_rules_allow, forwards_for_all


@dataclass(frozen=True)
class Places:
    """The two files. The drop-in's name makes it the last that is read, whatever a hardening role has put there."""

    config: Path = Path("/etc/bailey/network.json")
    drop_in: Path = Path("/etc/sysctl.d/zz-bailey-network.conf")
    engine: EnginePlaces = DEFAULT_PLACES


@dataclass
class Arranged:
    """What was changed, or in check mode would be."""

    differences: Differences = field(default_factory=Differences)
    warnings: list[str] = field(default_factory=list)


def arrange(given: Mapping[str, Json], *, check: bool, places: Places = Places()) -> Arranged:
    """Bring both files and the living kernel to what is declared, and read the kernel back.

    `given` holds the settings of network.json by name. Raises InvalidValueError for the first that is wrong, before
    anything changes; HostError where there is no such bridge, EnforcementError where the kernel does not take a
    setting. In check mode the bridge may be missing: the engine that makes it may not be installed yet.
    """
    content: dict[str, Json] = {"version": VERSION, **given}
    bridge = parse_network_settings(content, "network").bridge
    kernel = {f"net/{name}": value for name, value in settings_of(bridge).items()}
    # The bridge's own go into the drop-in. Forwarding does not: an engine that finds it on when it starts leaves the
    # FORWARD chain open.
    of_bridge = {name: value for name, value in kernel.items() if f"/conf/{bridge}/" in name}
    forwarding = dict.fromkeys((f"net/{FORWARDING}", "net/ipv4/conf/all/forwarding"), kernel[f"net/{FORWARDING}"])
    done = Arranged()
    _compare(content, places, done.differences)
    done.differences.add(str(places.drop_in), read_text(places.drop_in), render(of_bridge))
    present = Path(f"/sys/class/net/{bridge}/bridge").exists()
    for name in broken_settings(bridge) if present else ():
        done.differences.add(f"net/{name}", "not set", kernel[f"net/{name}"])
    against = contradictions(places.drop_in.name, of_bridge) + contradictions("", forwarding)
    done.warnings += [
        f"{line} is against the tenants' network, and stops it until the agent comes by" for line in against
    ]
    record = read_record(places.engine)
    routes = record is not None and forwards_for_all(record.found.kernel)
    if routes:
        done.differences.add("iptables FORWARD policy", "ACCEPT", "DROP")
    if not check:
        if not present:
            raise HostError(f"network.bridge: there is no bridge {bridge} on this host; is the engine running?")
        _write(places.drop_in, render(of_bridge))
        _set(bridge)
        if routes:
            forward_no_more_than_rules_allow()
        _write(places.config, _text(content))
    return done


def disarrange(*, check: bool, places: Places = Places()) -> Arranged:
    """Remove both files. What the kernel holds is put back with the bridge, and by what first changed it."""
    done = Arranged()
    for path in (places.drop_in, places.config):
        if done.differences.add(str(path), "present" if path.exists() else "absent", "absent") and not check:
            path.unlink()
    if not check:
        remove_if_empty(places.config.parent)
    return done


def _compare(content: Mapping[str, Json], places: Places, differences: Differences) -> None:
    """Record each setting that differs, or the whole file where what is there is none of ours."""
    former = read_text(places.config)
    if former == _text(content):
        return
    try:
        before = json.loads(former or "{}")
    except ValueError:
        before = None
    if not isinstance(before, dict) or before == content:
        differences.add(str(places.config), former, _text(content))
        return
    for key in sorted({*before, *content}):
        differences.add(f"{places.config.stem}.{key}", before.get(key), content.get(key))


def _text(content: Mapping[str, Json]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file where it differs: its age says when it has changed."""
    if read_text(path) != text:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(path, text.encode(), mode=0o644)


def _set(bridge: str) -> None:
    """Make the kernel's settings hold now, and read them back."""
    try:
        apply_settings(bridge)
    except OSError as error:
        raise HostError(f"{error.filename}: it cannot be set: {error.strerror}") from error
    broken = broken_settings(bridge)
    if broken:
        raise EnforcementError(f"the kernel does not keep {', '.join(f'net/{name}' for name in broken)}")

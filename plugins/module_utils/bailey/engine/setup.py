"""The container engine of a host: configured by Bailey, or gone without a trace."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..changes import Differences
from ..errors import CommandError, HostError
from ..host.ceilings import has_systemd, read_ceilings
from ..host.command import run
from ..host.files import read_text, write_atomic
from ..host.runit import remove_if_empty
from . import userns
from .claim import (
    DEFAULT_PLACES,
    Found,
    Places,
    Record,
    RunningEngine,
    check_changes,
    check_claim,
    find_engine,
    next_record,
    read_containers,
    read_record,
    remapped_roots,
    write_record,
)
from .config import REMAP, EngineSettings, Options, compose, render
from .kernel import check_host, check_socket_is_free, containerd_runs, read_kernel_settings
from .remains import check_no_engine, remove_remains, restore_config

_NOBODY = "65534"
_IMAGES_APART = (
    "docker_userns_remap: the engine keeps images of each range of ids apart, so that they are built or pulled again."
    " The former ones stay in docker_data_root until they are used again or the engine is removed"
)
_NEEDS_ROOT = "needs to be started with root"


@dataclass
class Applied:
    """What was changed, or in check mode would be."""

    differences: Differences = field(default_factory=Differences)
    options: Options = field(default_factory=dict)
    previous: str | None = None  # the text of the daemon.json that was replaced
    found: Found | None = None  # None where Bailey has no record of an engine here
    warnings: list[str] = field(default_factory=list)


class _Before(NamedTuple):
    """Whose the engine is, and whether it runs."""

    record: Record | None
    engine: RunningEngine | None


def configure(settings: EngineSettings, *, adopt: bool, check: bool, places: Places = DEFAULT_PLACES) -> Applied:
    """Bring daemon.json to what is declared, unless the engine is another owner's.

    Everything is checked before anything is written, in check mode as well.
    """
    systemd = has_systemd()
    options = compose(settings, read_ceilings(systemd=systemd))
    check_host(options)
    record = read_record(places)
    engine = find_engine(places, Path(str(options["data-root"])))
    check_claim(places, record, engine, options, adopt=adopt)
    check_changes(record, options)
    if engine is None and not systemd:
        check_socket_is_free(places.socket)
    ids = _arrange_ids(options, check=check, places=places)
    check_by_engine(render(options))
    applied = _write(options, ids, _Before(record, engine), check=check, places=places)
    if record is not None and record.options.get(REMAP) != options.get(REMAP):
        applied.warnings.append(_IMAGES_APART)
    return applied


def _arrange_ids(options: Options, *, check: bool, places: Places) -> userns.Arranged | None:
    if REMAP not in options:
        return None
    data_root = Path(str(options["data-root"]))
    arranged = userns.arrange(places, data_root)
    userns.check_kernel(arranged.ids, data_root)
    if not check:
        userns.check_account(places)
    return arranged


def _write(options: Options, ids: userns.Arranged | None, before: _Before, *, check: bool, places: Places) -> Applied:
    record, engine = before
    text = render(options)
    former = read_text(places.config)
    found = record.found if record else _look_around(options, engine, former, places)
    wanted = next_record(record, found, options, former)
    applied = Applied(_differences(former, options, places), options, former, found)
    if record is None or record.options != options:
        applied.differences.add(str(places.record), "of other options" if record else "absent", "present")
    if ids is not None:
        applied.differences.extend(ids.differences)
    if check or not applied.differences:
        return applied
    write_record(places, wanted)  # first: a crash before the next line leaves a file that the record covers
    if ids is not None:
        ids.write()
    # Written again where the range is another one: the service restarts for a file that is newer than the engine.
    if former != text or (ids is not None and ids.texts):
        places.config.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(places.config, text.encode(), mode=0o644)
    return applied


def _look_around(options: Options, engine: RunningEngine | None, former: str | None, places: Places) -> Found:
    paths = [*places.made_by_the_engine(Path(str(options["data-root"]))), places.subuid, places.subgid]
    return Found(
        paths=tuple(str(path) for path in paths if path.exists()),
        config=former,
        running=engine is not None,
        containerd_running=containerd_runs(),
        kernel=read_kernel_settings(),
    )


def _differences(former: str | None, options: Options, places: Places) -> Differences:
    found = Differences()
    if former == render(options):
        return found
    try:
        before = json.loads(former or "{}")
    except ValueError:
        before = None
    if not isinstance(before, dict) or before == options:
        found.add(str(places.config), former, render(options))
        return found
    for key in sorted({*before, *options}):
        found.add(key, before.get(key), options.get(key))
    return found


def check_by_engine(text: str) -> None:
    """Let dockerd itself read the file before it is installed, where the host has a dockerd.

    Versions from 23 on have --validate. An older one reads its whole configuration before it
    finds out that it is not root, so it is started as nobody: it then ends without having done anything.
    """
    if shutil.which("dockerd") is None:
        return
    with tempfile.TemporaryDirectory(prefix="bailey-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        path = directory / "daemon.json"
        write_atomic(path, text.encode(), mode=0o644)
        try:
            run(["dockerd", "--validate", "--config-file", str(path)])
        except CommandError as error:
            message = error.stderr
            if "unknown flag: --validate" in message:
                message = _message_as_nobody(path)
            if _NEEDS_ROOT not in message:
                reason = message.strip().replace(str(path), "daemon.json")
                raise HostError(f"dockerd refuses the configuration: {reason}") from error


def _message_as_nobody(path: Path) -> str:
    argv = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    try:
        return run([*argv, "dockerd", "--config-file", str(path)], timeout=30)
    except CommandError as error:
        return error.stderr


def unconfigure(*, force: bool, check: bool, places: Places = DEFAULT_PLACES) -> Applied:
    """Remove the configuration and, unless the engine was there before Bailey, all that the engine left.

    In check mode this says whether it may be done; the engine may then still run. In a real run it
    must have been stopped, unless it was there before.
    """
    record = read_record(places)
    if record is None:
        return Applied()
    data_root = Path(str(record.options["data-root"]))
    if not record.found.running:
        _check_unused(data_root, record, force=force)
        if not check:
            engine = find_engine(places, data_root)
            check_no_engine(engine.pid if engine else None)
    else:
        _check_not_remapped(data_root, record)
    applied = Applied(found=record.found, options=record.options)
    applied.differences.add(str(places.record), "present", "absent")
    if check:
        return applied
    text = read_text(places.config)
    if text is None or record.covers(text):
        applied.differences.extend(restore_config(places, record))
    else:
        applied.warnings.append(f"{places.config} was changed by hand since Bailey wrote it, and is left as it is")
    if not record.found.running:
        applied.differences.extend(remove_remains(places, record))
    applied.differences.extend(userns.release(places, record.found.paths))
    places.record.unlink()  # last: a failure before this leaves enough to go on from
    remove_if_empty(places.record.parent)
    return applied


def _check_not_remapped(data_root: Path, record: Record) -> None:
    """Raise HostError where an engine that stays would lose sight of containers with its former configuration."""
    containers = [container for root in remapped_roots(data_root) for container in read_containers(root)]
    if REMAP in record.options and containers:
        names = ", ".join(container.name for container in containers)
        raise HostError(f"{data_root} holds containers with remapped ids, which this engine had not before: {names}")


def _check_unused(data_root: Path, record: Record, *, force: bool) -> None:
    containers = read_containers(data_root)
    if containers and not force and str(data_root) not in record.found.paths:
        names = ", ".join(container.name for container in containers)
        raise HostError(
            f"{data_root} still holds containers: {names}. Remove them, or set docker_teardown_force: true to"
            " destroy them together with the engine's images and volumes"
        )

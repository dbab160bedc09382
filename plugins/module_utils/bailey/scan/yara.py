"""YARA: the distribution's programs, compiled rules, and what they say of a file's content.

Content is hostile, and parsing it is where scanners are attacked: so `yara` sees nothing but a copy of it in memory
and the compiled rules, under a uid that owns nothing, without privileges, and with limits of its own. Rules are the
operator's and ours; root compiles them.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BaileyError, CommandError, HostError
from ..host.command import run
from .content import Content

OWN_RULES = Path(__file__).with_name("rules")
_OWN = "bailey"
_SUFFIXES = (".yar", ".yara")
_MODEST = "report"  # the tag of a rule whose matches are never more than reported
# Above the accounts of every distribution and below nobody: Debian's policy keeps it free.
_UID = 65_533
_SECONDS = 60  # of one file
_SLACK = 10.0  # seconds above that until it is killed
_MEMORY = 2 << 30
_COMPILE_SECONDS = 60.0
_MATCH = re.compile(r"(\w+):(\w+) \[([\w,]*)\] ", re.ASCII)
_KEPT_COMPILED = 2
_OUTPUT_MAX = 1 << 16


@dataclass(frozen=True)
class Match:
    """A YARA rule that matches. One that is `modest` is reported and leads to nothing more."""

    namespace: str
    rule: str
    modest: bool

    @property
    def name(self) -> str:
        """Its name as operators write it."""
        return f"{self.namespace}:{self.rule}"


@dataclass(frozen=True)
class Ruleset:
    """Compiled rules. Another digest is another set of them, or another YARA."""

    path: Path
    digest: str


class MatchError(BaileyError):
    """YARA could not say anything of some content."""


def sources(own: Path, operators: Path) -> list[tuple[str, Path]]:
    """Return the files of rules with their namespaces: ours, and the operator's, which may not be named like ours.

    Raises HostError for two that would have the same, or for one of the operator's that has one of ours.
    """
    found: dict[str, Path] = {f"{_OWN}_{_word(path)}": path for path in _rule_files(own)}
    for path in _rule_files(operators):
        namespace = _word(path)
        if namespace in found or namespace.startswith(f"{_OWN}_"):
            other = found.get(namespace, own)
            raise HostError(f"{path}: its rules would have the names of those in {other}; rename the file")
        found[namespace] = path
    return list(found.items())


def _word(path: Path) -> str:
    return re.sub(r"\W", "_", path.stem, flags=re.ASCII)


def _rule_files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return []


def compile_rules(files: Sequence[tuple[str, Path]], directory: Path) -> Ruleset:
    """Return the rules compiled, from `directory` where they have been compiled before.

    Raises HostError or CommandError, whose text names file and line, where they cannot be. What a file includes does
    not count for whether it has changed.
    """
    digest = _digest(files)
    path = directory / f"rules-{digest[:16]}.yarc"
    if not path.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".rules-", delete=False) as file:
            fresh = Path(file.name)
        try:
            check_rules(files, fresh)
            fresh.chmod(0o644)  # yara opens it again, under its own uid
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        _forget_others(directory)
    return Ruleset(path, digest)


def check_rules(files: Sequence[tuple[str, Path]], target: Path) -> None:
    """Compile rules into a file. Raises CommandError where one does not compile."""
    words = [f"{namespace}:{path}" for namespace, path in files]
    try:
        run(["yarac", "-w", *words, str(target)], timeout=_COMPILE_SECONDS)
    except CommandError as error:
        raise HostError(f"YARA rules do not compile: {error.stderr.strip()}") from error


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256(run(["yara", "--version"], timeout=10).encode())
    for namespace, path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise HostError(f"{path}: rules that cannot be read: {error}") from error
        digest.update(f"\0{namespace}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _forget_others(directory: Path) -> None:
    ages = sorted(directory.glob("rules-*.yarc"), key=lambda path: path.stat().st_mtime)
    for old in ages[:-_KEPT_COMPILED]:
        old.unlink(missing_ok=True)


def match(ruleset: Ruleset, content: Content, seconds: float = _SECONDS) -> list[Match]:
    """Return the rules that match. Raises MatchError where it does not come to an end, or fails.

    `seconds` bounds both its time and its processor time.
    """
    bound = max(1, round(min(seconds, _SECONDS)))
    rules = os.open(ruleset.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        output = _run(_words(rules, content.descriptor, bound), (rules, content.descriptor), bound + _SLACK)
    finally:
        os.close(rules)
    found = (_MATCH.match(line) for line in output.splitlines())
    return [Match(item[1], item[2], _MODEST in item[3].split(",")) for item in found if item is not None]


def _words(rules: int, content: int, seconds: int) -> list[str]:
    return [
        *("prlimit", f"--cpu={seconds}", f"--as={_MEMORY}", "--fsize=0", "--core=0", "--nofile=32", "--nproc=64"),
        *("setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", "--no-new-privs"),
        *("--inh-caps=-all", "--bounding-set=-all"),
        *("yara", "-C", "-w", "-e", "-g", "-f", "-p", "1", "-a", str(seconds)),
        *(f"/proc/self/fd/{rules}", f"/proc/self/fd/{content}"),
    ]


def _run(words: Sequence[str], descriptors: Sequence[int], timeout: float) -> str:
    """Run yara, which gets two descriptors and the host's programs as environment, and no word of the content."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=descriptors,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise HostError(f"{words[0]}: no such program on this host") from error
    except subprocess.TimeoutExpired as error:
        raise MatchError(f"yara has not finished after {timeout:g} s") from error
    if done.returncode != 0:
        words_said = done.stderr.decode(errors="replace").strip()[-200:]
        raise MatchError(f"yara ended with status {done.returncode}: {words_said or 'it said nothing'}")
    return done.stdout[:_OUTPUT_MAX].decode(errors="replace")

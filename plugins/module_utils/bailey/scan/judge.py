"""What YARA says of a file or of memory, asked once for each content."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .budget import Budget
from .content import Content, TooLargeError, hold, identity, take
from .memory import Memory
from .processes import Program, clean
from .yara import Match, MatchError, Ruleset, match

_NOTES_MAX = 20


@dataclass(frozen=True)
class Verdict:
    """A content's digest, and the YARA rules that match it."""

    sha256: str
    matches: list[Match]


@dataclass
class Judge:
    """Asks for verdicts. Without a `ruleset` there are digests only."""

    ruleset: Ruleset | None
    memory: Memory
    budget: Budget
    file_max: int
    notes: list[str] = field(default_factory=list)
    read: int = 0  # contents that have been read, and those of them that YARA was asked about
    asked: int = 0

    def of_program(self, program: Program) -> Verdict | None:
        """Return the verdict on a file; None where it cannot be had, which is noted."""
        mark = identity(program.descriptor, program.status, time.time())
        known = self.memory.known(mark, self._digest)
        if known is not None:
            return Verdict(*known)
        try:
            content = take(program.descriptor, self.file_max)
        except TooLargeError:
            self._note(f"{program.shown} is larger than {self.file_max >> 20} MiB and was not looked at")
            return None
        except OSError as error:
            self._note(f"{program.shown} cannot be read: {error.strerror}")
            return None
        verdict = self._of_content(content, program.shown)
        if verdict is not None and mark is not None:
            self.memory.files[mark] = verdict.sha256
        return verdict

    def of_memory(self, data: bytes, whose: str) -> Verdict | None:
        """Return the verdict on what a process has in its memory."""
        return self._of_content(hold(data), f"the memory of {whose}")

    @property
    def _digest(self) -> str:
        return "" if self.ruleset is None else self.ruleset.digest

    def _of_content(self, content: Content, what: str) -> Verdict | None:
        self.read += 1
        try:
            matches = self.memory.verdict(content.sha256, self._digest)
            if matches is None:
                matches = self._ask(content)
                self.memory.learn(content.sha256, self._digest, matches)
        except MatchError as error:
            self._note(f"{what}: {error}")
            return None
        finally:
            content.close()
        return Verdict(content.sha256, matches)

    def _ask(self, content: Content) -> list[Match]:
        if self.ruleset is None:
            return []
        self.asked += 1
        return match(self.ruleset, content, max(1.0, self.budget.left))

    def _note(self, text: str) -> None:
        if len(self.notes) < _NOTES_MAX:
            self.notes.append(clean(text))

"""What a compiled AppArmor profile allows, found out as the kernel does it: by running its automata.

Sources in security/apparmor: match.c (tables, aa_dfa_match), policy_unpack.c, policy_compat.c (permissions of policy
versions 5 to 8), file.c, ipc.c, net.c. Only what the tests ask for is here.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

from bailey.host.apparmor_policy import CompiledProfile, _tokens

_MAGIC = struct.pack(">I", 0x1B5E783D)
_ACCEPT, _BASE, _CHECK, _DEFAULT, _CLASSES, _NEXT = 1, 2, 3, 4, 5, 8
_DIFFERENCE_ENCODED, _BASE_INDEX = 0x80000000, 0xFFFFFF
_PTRACE, _SIGNAL, _NETWORK = 9, 10, 14
_NAME, _STRING, _BLOB = 4, 5, 6
_LETTERS = {"x": 0x1, "w": 0x2, "r": 0x4, "l": 0x10, "k": 0x20, "m": 0x40}
_UNSAFE, _INHERIT = 0x100, 0x200
SIGNALS = {"kill": 9, "term": 15, "stop": 19, "exists": 35}  # as apparmor_parser counts them: see sig_names.h
FAMILIES = {"unix": 1, "inet": 2, "inet6": 10, "netlink": 16, "packet": 17}
TYPES = {"stream": 1, "dgram": 2, "raw": 3, "seqpacket": 5}


class Automaton:
    """The tables of one automaton; states are numbers, 0 is the one that nothing leads out of."""

    def __init__(self, blob: bytes) -> None:
        data = blob[blob.index(_MAGIC) :]
        offset = struct.unpack_from(">I", data, 4)[0]
        self._tables: dict[int, tuple[int, ...]] = {}
        while offset + 12 <= len(data):
            number, width, _, length = struct.unpack_from(">HHII", data, offset)
            if width not in (1, 2, 4):
                break
            form = f">{length}{ {1: 'B', 2: 'H', 4: 'I'}[width] }"
            self._tables[number] = struct.unpack_from(form, data, offset + 12)
            offset += (12 + length * width + 7) // 8 * 8

    def run(self, state: int, text: bytes) -> int:
        for byte in text:
            state = self._step(state, self._tables[_CLASSES][byte] if _CLASSES in self._tables else byte)
        return state

    def _step(self, state: int, byte: int) -> int:
        while True:
            base = self._tables[_BASE][state]
            position = (base & _BASE_INDEX) + byte
            if self._tables[_CHECK][position] == state:
                return self._tables[_NEXT][position]
            state = self._tables[_DEFAULT][state]
            if not base & _DIFFERENCE_ENCODED:
                return state

    def accepted(self, state: int) -> int:
        return self._tables[_ACCEPT][state]

    def accepts_from(self, start: int) -> bool:
        """Say whether some text leads from a state to another that allows something.

        A class's own state is accepting wherever the kernel has the class: that says "there are rules for it".
        """
        seen, todo = {0}, [start]
        classes = set(self._tables[_CLASSES]) if _CLASSES in self._tables else set(range(256))
        while todo:
            state = todo.pop()
            if state not in seen:
                seen.add(state)
                todo.extend(self._step(state, number) for number in classes)
        return any(self.accepted(state) for state in seen - {start})


@dataclass(frozen=True)
class Execution:
    """How a program is executed: under the same profile, or under those of `target`; and if its environment stays."""

    target: str | None
    keeps_environment: bool


class Rules:
    """The rules of one compiled profile."""

    def __init__(self, profile: CompiledProfile) -> None:
        tokens = list(_tokens(profile.body))
        blobs = [
            after.value
            for before, after in itertools.pairwise(tokens)
            if (before.kind, before.value, after.kind) == (_NAME, b"aadfa", _BLOB) and isinstance(after.value, bytes)
        ]
        self._policy, self._files = (Automaton(blob) for blob in blobs)
        names = [token.value for token in tokens]
        table = names.index(b"xtable") if b"xtable" in names else len(tokens)
        self._targets = [
            token.value.decode() for token in tokens[table:] if token.kind == _STRING and isinstance(token.value, bytes)
        ]
        # Behind path_flags: the allowed, audited, quieted and killed capabilities; their upper halves in caps64.
        low = tokens[names.index(b"path_flags") + 2].value
        high = tokens[names.index(b"caps64") + 2].value
        assert isinstance(low, int)
        assert isinstance(high, int)
        self.capabilities = low | high << 32

    def file(self, path: str) -> str:
        """Return the letters of what is allowed with a file of somebody else's, links aside, in the order rwkmx."""
        bits = self._files.accepted(self._files.run(1, path.encode())) >> 14
        return "".join(letter for letter in "rwkmx" if bits & _LETTERS[letter])

    def link(self, path: str, target: str) -> bool:
        """Say whether a path may become another name of a target."""
        state = self._files.run(1, path.encode())
        pair = self._files.run(state, b"\0" + target.encode())
        return all(self._files.accepted(number) >> 14 & _LETTERS["l"] for number in (state, pair))

    def execution(self, path: str) -> Execution | None:
        """Return how a file is executed, None where it is not."""
        bits = self._files.accepted(self._files.run(1, path.encode())) >> 14
        if not bits & 1:
            return None
        kind = bits >> 10 & 0xF
        target = self._targets[kind - 4] if kind >= 4 else None
        assert target or bits & _INHERIT
        return Execution(target, bool(bits & _UNSAFE))

    def signal(self, peer: str, name: str) -> set[str]:
        """Return which of send and receive are allowed with a peer's label."""
        state = self._policy.run(1, bytes([_SIGNAL, SIGNALS[name]]) + peer.encode())
        return self._words(state, {"send": 0x2, "receive": 0x4})

    def ptrace(self, peer: str) -> set[str]:
        """Return what of tracing is allowed with a peer's label."""
        state = self._policy.run(1, bytes([_PTRACE]) + peer.encode())
        return self._words(state, {"trace": 0x2, "read": 0x4, "tracedby": 0x8, "readby": 0x10})

    def network(self, family: str, kind: str) -> bool:
        """Say whether a socket may be made."""
        state = self._policy.run(1, struct.pack(">BHH", _NETWORK, FAMILIES[family], TYPES[kind]))
        return bool(self._policy.accepted(state) & 0x7F)

    def mediates(self, number: int) -> bool:
        """Say whether there are rules for a class at all; without any the kernel allows everything of it."""
        return self._policy.run(1, bytes([number])) != 0

    def allows_any(self, number: int) -> bool:
        """Say whether anything at all is allowed of a class: whether a state that can be reached accepts something."""
        return self._policy.accepts_from(self._policy.run(1, bytes([number])))

    def _words(self, state: int, words: dict[str, int]) -> set[str]:
        bits = self._policy.accepted(state) & 0x7F
        return {word for word, bit in words.items() if bits & bit}

"""A uid of its own for each instance: per-uid limits are shared by all processes of a uid, on the whole host."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import HostError, InvalidValueError
from .exceptions import ROOT_UID


def parse_uid_range(field: str, value: object) -> range:
    """Read FIRST-LAST."""
    allowed = "FIRST-LAST with 1000 <= FIRST <= LAST <= 4294967293, such as 200000-265535"
    match = re.fullmatch(r"([0-9]{1,10})-([0-9]{1,10})", value.strip()) if isinstance(value, str) else None
    if match is None or not 1000 <= int(match[1]) <= int(match[2]) <= 4_294_967_293:
        raise InvalidValueError(field, value, allowed)
    return range(int(match[1]), int(match[2]) + 1)


def allocate(declared: Mapping[str, int | None], known: Mapping[str, int], uids: range) -> dict[str, int]:
    """Give each declared instance its uid: the one it asks for, the one it has, or the lowest that is free.

    `known` holds the uids that instances have now or left data under; none of them goes to another
    instance. Root's, which many may have, only goes to who asks for it. Raises InvalidValueError where two instances
    ask for one uid, HostError where none is left.
    """
    given: dict[str, int] = {}
    for name, uid in declared.items():
        if uid is not None:
            _refuse_shared(name, uid, known, given)
            given[name] = uid
        elif known.get(name, ROOT_UID) != ROOT_UID:
            given[name] = known[name]
    taken = set(known.values()) | set(given.values())
    free = (uid for uid in uids if uid not in taken)
    for name in declared:
        if name not in given:
            uid = next(free, None)
            if uid is None:
                raise HostError(f"uid_range: all of {uids.start}-{uids.stop - 1} is in use; {name} gets none")
            given[name] = uid
    return given


def _refuse_shared(name: str, uid: int, known: Mapping[str, int], given: Mapping[str, int]) -> None:
    for other, taken in () if uid == ROOT_UID else (*known.items(), *given.items()):
        if taken == uid and other != name:
            raise InvalidValueError(f"{name}.user", uid, f"a uid of its own; {other} has this one")

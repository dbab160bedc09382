"""The one list of differences from which `changed`, `--diff` and check mode are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Difference:
    """One value that is not as declared. Neither side ever holds a secret."""

    path: str
    before: Json
    after: Json


@dataclass
class Differences:
    """Differences in the order in which they were found."""

    items: list[Difference] = field(default_factory=list)

    def add(self, path: str, before: Json, after: Json) -> bool:
        """Record a difference where the two sides are not equal; say whether they were not."""
        if before == after:
            return False
        self.items.append(Difference(path, before, after))
        return True

    def extend(self, other: Differences, prefix: str = "") -> None:
        """Take over another list's differences, their paths below `prefix`."""
        self.items.extend(Difference(prefix + item.path, item.before, item.after) for item in other.items)

    def __bool__(self) -> bool:
        return bool(self.items)

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.items)

    def as_diff(self) -> dict[str, dict[str, Json]]:
        """Return the form that Ansible prints for --diff: one mapping of paths for each side."""
        return {
            "before": {item.path: item.before for item in self.items},
            "after": {item.path: item.after for item in self.items},
        }

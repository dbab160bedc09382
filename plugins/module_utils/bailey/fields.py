"""Reading a declared mapping once: every key must be known, every value is checked where it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .errors import InvalidValueError


class Fields:
    """A mapping under reading, which knows its place so that errors can name it.

    Absent keys and keys that are null are the same: Ansible fills what was not given with null.
    """

    def __init__(self, where: str, value: object, known: Iterable[str]) -> None:
        self.where = where
        if not isinstance(value, Mapping):
            raise InvalidValueError(where, value, "a mapping")
        self._values = {key: item for key, item in value.items() if item is not None}
        allowed = sorted(known)
        for key in self._values:
            if key not in allowed:
                # The value is not shown: under a mistyped "environment" it is somebody's secrets.
                raise InvalidValueError(self.path(str(key)), key, f"as a key, one of {', '.join(allowed)}")

    def path(self, key: str) -> str:
        """Return the name under which an error speaks of a key."""
        return f"{self.where}.{key}" if self.where else key

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, default: object = None) -> object:
        """Return a value as it was given."""
        return self._values.get(key, default)

    def required(self, key: str, hint: str) -> object:
        """Return a value that must have been given; `hint` tells what is expected."""
        if key not in self._values:
            raise InvalidValueError(self.path(key), None, f"it is required: {hint}")
        return self._values[key]

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise InvalidValueError(self.path(key), value, "true or false")
        return value

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self._values.get(key, default)
        if not isinstance(value, str) or "\0" in value:
            raise InvalidValueError(self.path(key), value, "a string")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """Return one of a few words."""
        value = self._values.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise InvalidValueError(self.path(key), value, f"one of {', '.join(choices)}")
        return value

    def items(self, key: str) -> list[object]:
        """Return a list, empty where it was not given."""
        value = self._values.get(key, [])
        if not isinstance(value, list | tuple):
            raise InvalidValueError(self.path(key), value, "a list")
        return list(value)

    def words(self, key: str) -> tuple[str, ...] | None:
        """Return a list of strings, or None where it was not given."""
        if key not in self._values:
            return None
        words: list[str] = []
        for number, item in enumerate(self.items(key)):
            if isinstance(item, bool) or not isinstance(item, str | int) or "\0" in str(item):
                raise InvalidValueError(f"{self.path(key)}[{number}]", item, "a string")
            words.append(str(item))
        return tuple(words)

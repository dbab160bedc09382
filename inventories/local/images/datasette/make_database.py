"""Makes an SQLite database from the JSON files of Debian's iso-codes: make_database.py FROM_DIRECTORY DATABASE."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

SCHEMA = """
create table countries (code text primary key, name text not null, official_name text, numeric text, flag text);
create table subdivisions (
    code text primary key, country text not null references countries (code), name text not null, type text
);
create table languages (code text primary key, name text not null, scope text, type text);
create table currencies (code text primary key, name text not null, numeric text);
create index subdivisions_country on subdivisions (country);
"""


def records(directory: Path, part: str) -> list[dict[str, str]]:
    """Return the records of one standard's part."""
    document: dict[str, list[dict[str, str]]] = json.loads((directory / f"iso_{part}.json").read_text())
    return document[part]


def rows(directory: Path) -> Iterator[tuple[str, list[tuple[str | None, ...]]]]:
    """Return each insert with its rows."""
    yield (
        "insert into countries values (?, ?, ?, ?, ?)",
        [
            (
                item["alpha_2"],
                item.get("common_name", item["name"]),
                item.get("official_name"),
                item["numeric"],
                item.get("flag"),
            )
            for item in records(directory, "3166-1")
        ],
    )
    yield (
        "insert into subdivisions values (?, ?, ?, ?)",
        [
            (item["code"], item["code"].partition("-")[0], item["name"], item.get("type"))
            for item in records(directory, "3166-2")
        ],
    )
    yield (
        "insert into languages values (?, ?, ?, ?)",
        [(item["alpha_3"], item["name"], item.get("scope"), item.get("type")) for item in records(directory, "639-3")],
    )
    yield (
        "insert into currencies values (?, ?, ?)",
        [(item["alpha_3"], item["name"], item.get("numeric")) for item in records(directory, "4217")],
    )


def main() -> None:
    """Make the database."""
    directory, database = map(Path, sys.argv[1:])
    connection = sqlite3.connect(database)
    connection.executescript(SCHEMA)
    for statement, values in rows(directory):
        connection.executemany(statement, values)
    connection.commit()
    connection.execute("vacuum")
    connection.close()


if __name__ == "__main__":
    main()

"""The attacks that are made, and the table in which people read of them."""

from __future__ import annotations

import re

from tests.integration.test_lockdown_attacks import ATTACKS, NOT_HERE, READ_ONLY_TO_ROOT, WEAK
from tests.unit import house

GROUNDS = {"machine", "virtual machine", "both"}


def _rows() -> list[list[str]]:
    text = (house.ROOT / "docs/security.md").read_text()
    section = text.partition("## Attacks, their tests and the layers\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    assert lines[:2] == ["attack | test | layer | ground", "--- | --- | --- | ---"]
    return [line.split(" | ") for line in lines[2:]]


def test_the_table_is_that_of_the_attacks_that_are_made() -> None:
    documented = [(attack, layer) for attack, test, layer, _ in _rows() if test == "test_lockdown_attacks"]
    assert documented == list(ATTACKS)


def test_each_row_names_a_test_and_a_ground() -> None:
    for attack, test, _, ground in _rows():
        assert list(house.ROOT.glob(f"tests/*/{test}.py")) or list(house.ROOT.glob(f"molecule/*/{test}.py")), attack
        assert ground in GROUNDS, attack
    assert {attack for attack, _, _, ground in _rows() if ground == "virtual machine"} >= NOT_HERE


def test_each_row_of_the_virtual_machine_names_a_test_of_it() -> None:
    text = (house.ROOT / "docs/security.md").read_text()
    section = text.partition("## Attacks on a kernel of its own\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[2:]]
    assert len(rows) >= 8
    tests = (house.ROOT / "molecule/vm/tests/test_lockdown.py").read_text()
    for attack, test, _, ground in rows:
        assert f"def {test}(" in tests, attack
        assert ground == "virtual machine"


def test_each_attack_has_a_name_of_its_own_and_the_lists_name_some_of_them() -> None:
    names = [name for name, _ in ATTACKS]
    assert len(set(names)) == len(names) > 80
    assert set(names) >= NOT_HERE | READ_ONLY_TO_ROOT | WEAK

"""Whether another engine of the host keeps rules in the chains that all engines share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bailey.engine import kernel


@pytest.mark.parametrize(
    ("options", "config", "shares"),
    [
        ([], "{}", True),
        ([], '{"iptables": true}', True),
        ([], '{"iptables": false}', False),
        ([], "no JSON", True),
        ([], "[]", True),
        (["--iptables=false"], "{}", False),
        (["--iptables", "false"], "{}", False),
        (["--iptables=true"], "{}", True),
    ],
)
@pytest.mark.parametrize("form", ["{option}={path}", "{option} {path}"])
def test_an_engine_shares_them_unless_it_writes_no_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], config: str, shares: bool, form: str
) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(config)
    argv = ["dockerd", *form.format(option="--config-file", path=path).split(), *options]
    monkeypatch.setattr(kernel, "engines_of_this_network", lambda: [os.getpid()])
    monkeypatch.setattr(kernel, "argv_of", lambda _pid: argv)
    assert kernel.shares_chains() is shares


def test_without_another_engine_nobody_shares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "engines_of_this_network", list)
    assert not kernel.shares_chains()

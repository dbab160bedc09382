"""The role hardening: what its defaults are, and that it refuses to lock out whoever it comes in by."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from bailey.lockdown.declaration import parse_declaration
from bailey.lockdown.modules import DENIED

from tests.unit import house

ROLE = house.ROOT / "roles/hardening"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
# What role and module call the same.
OF_MODULE = ("features", "sysctls", "boot_parameters", "modules_denied", "grsecurity", "pax_flags", "lock")
OF_MODULE += ("conflicts", "required")


def test_the_roles_defaults_are_the_modules() -> None:
    given = {name: DEFAULTS[f"hardening_{name}"] for name in OF_MODULE}
    assert parse_declaration(given) == parse_declaration({})
    assert tuple(DEFAULTS["hardening_modules_denied"]) == DENIED


@pytest.mark.parametrize("name", ["preflight", "kernel"])
def test_the_module_is_given_every_setting_of_the_role(name: str) -> None:
    tasks = yaml.safe_load((ROLE / f"tasks/{name}.yml").read_text())
    given = next(task["bailey_grsec"] for task in tasks if "bailey_grsec" in task)
    assert given == {option: f"{{{{ hardening_{option} }}}}" for option in OF_MODULE}
    module = house.import_module(house.ROOT / "library/bailey_grsec.py")
    assert set(given) == set(house.argument_spec(module)) - {"state"}


def play(directory: Path, tasks: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run one tasks file of the role against this machine, as what it is to find says."""
    playbook = directory / "play.yml"
    include = {"name": "hardening", "tasks_from": tasks}
    task = {"name": "Run it", "ansible.builtin.include_role": include}
    playbook.write_text(
        yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [task]}])
    )
    return subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", str(playbook)],
        cwd=house.ROOT,
        env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def message(done: subprocess.CompletedProcess[str]) -> str:
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_root_that_comes_by_ssh_is_not_locked_out(tmp_path: Path) -> None:
    done = play(tmp_path, "ssh_preflight", hardening_ssh_account="root")
    assert done.returncode == 2
    assert "hardening_ssh: true would lock Ansible out: it comes in by ssh as root" in message(done)
    assert "Connect anew" not in done.stdout


@pytest.mark.parametrize(("account", "root_login"), [("deploy", "no"), ("root", "prohibit-password")])
def test_a_deploy_account_that_does_not_get_in_stops_it(tmp_path: Path, account: str, root_login: str) -> None:
    # Nothing listens on port 1 of this machine.
    done = play(
        tmp_path,
        "ssh_preflight",
        hardening_ssh_account=account,
        hardening_ssh_root_login=root_login,
        ansible_host="127.0.0.1",
        ansible_port=1,
    )
    assert done.returncode == 2
    assert f"would lock Ansible out: {account} did not get in by key" in message(done)
    assert "onnection refused" in message(done)


def rendered(template: str, **variables: Any) -> str:
    """Return what a template makes of its variables, with the settings that Ansible has for Jinja."""
    text = (ROLE / "templates" / template).read_text()
    return jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined).from_string(text).render(variables)


def test_each_watch_is_a_rule() -> None:
    text = rendered("etc/audit/rules.d/60-bailey.rules.j2", **DEFAULTS)
    rules = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(rules) == len(DEFAULTS["hardening_audit_watches"])
    assert "-w /etc/docker -p wa -k bailey-engine" in rules
    assert all(re.fullmatch(r"-w /\S+ -p wa -k bailey-\w+", rule) for rule in rules)
    assert not any("volumes" in rule for rule in rules)


def test_the_servers_settings_name_what_is_read_back() -> None:
    text = rendered("etc/ssh/sshd_config.d/10-bailey.conf.j2", **DEFAULTS)
    wanted = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__hardening_ssh_wanted"]
    keys = {line.split()[0].lower() for line in text.splitlines() if not line.startswith("#")}
    assert {line.split()[0] for line in wanted} <= keys
    assert "PermitRootLogin no" in text.splitlines()


def test_no_update_reboots_a_host() -> None:
    given = {"hardening_updates_held": [r"docker\.io"]}
    text = rendered("etc/apt/apt.conf.d/60bailey-updates.j2", **given)
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in text
    assert r'Unattended-Upgrade::Package-Blacklist:: "docker\.io";' in text

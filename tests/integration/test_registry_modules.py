"""The modules of the registry as Ansible runs them: what they say, and that they keep secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bailey.registry.client import Credentials

from tests.integration.fixtures.registry import ACCOUNT, NAME, PASSWORD, Registry

pytest_plugins = ["tests.integration.fixtures.registry"]

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Modules:
    """The modules as Ansible runs them, a process each; their output is kept, to be searched for secrets."""

    directory: Path
    printed: list[str] = field(default_factory=list)
    package: str = "payload"

    def __post_init__(self) -> None:
        """Lay library and module_utils side by side, as Ansible ships them to a host."""
        package = self.directory / self.package
        package.mkdir()
        (package / "library").symlink_to(REPOSITORY / "library")
        (package / "module_utils").symlink_to(REPOSITORY / "plugins/module_utils")

    def run(self, module: str, arguments: dict[str, object], *, check_mode: bool = False) -> dict[str, Any]:
        given = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check_mode, "_ansible_diff": True}}
        done = subprocess.run(
            [sys.executable, "-m", ".".join((self.package, "library", module))],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(self.directory)},
            check=False,
        )
        self.printed.append(done.stdout + done.stderr)
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def test_the_modules_say_what_they_do_and_keep_secrets(registry: Registry, tmp_path: Path) -> None:
    modules = Modules(tmp_path)
    endpoint, where = registry.declared.endpoint, registry.locations
    directories = {"config_dir": where.config, "authority_dir": where.authority, "secrets_dir": where.secrets}
    places: dict[str, object] = {name: str(path) for name, path in directories.items()}
    server_side = {**places, "storage_dir": str(where.storage), "account": ACCOUNT, "name": NAME}
    server_side |= {"address": endpoint.address, "port": endpoint.port, "password": PASSWORD}
    client_files = {"docker_config": str(registry.root / "docker/config.json")}
    client_side = {**client_files, "name": NAME, "port": endpoint.port, "certs_dir": str(registry.root / "certs.d")}

    assert modules.run("bailey_registry", server_side, check_mode=True)["changed"]
    assert not list(registry.root.iterdir())
    first = modules.run("bailey_registry", server_side)
    assert first["changed"]
    assert first["restart_needed"]
    assert first["reference"] == f"{NAME}:{endpoint.port}"
    second = modules.run("bailey_registry", server_side)
    assert not second["changed"]
    assert not second["restart_needed"]

    registry.start()
    login = {**client_side, "ca": where.authority_certificate.read_text(), "password": PASSWORD}
    given = modules.run("bailey_registry_client", login)
    assert given["changed"]
    assert not modules.run("bailey_registry_client", login)["changed"]
    asked = {
        **client_files,
        "name": NAME,
        "port": endpoint.port,
        "address": endpoint.address,
        "ca_file": given["ca_file"],
    }
    info = modules.run("bailey_registry_info", {**asked, "healthy_within": 10})
    assert info["health"]["error"] is None
    assert 364 < info["health"]["certificate_days_left"] <= 365
    assert info["counts"] == {"repositories": 0, "tags": 0, "size": 0}

    registry.stop()
    assert "does not answer" in modules.run("bailey_registry_info", asked)["health"]["error"]
    assert "does not answer" in modules.run("bailey_registry_info", {**asked, "healthy_within": 0})["msg"]
    bad = modules.run("bailey_registry", {**server_side, "address": "127.0.0.1"})
    assert bad["msg"].startswith("address: '127.0.0.1' is not valid")

    secrets = [PASSWORD, where.http_secret.read_text().strip(), Credentials("bailey", PASSWORD).header().split()[1]]
    server_gone = {**places, "storage_dir": str(where.storage), "state": "absent", "remove_data": True}
    client_gone = {**client_side, "state": "absent"}
    for module, gone in (("bailey_registry", server_gone), ("bailey_registry_client", client_gone)):
        assert modules.run(module, gone)["changed"]
        assert not modules.run(module, gone)["changed"]
    assert {path.name for path in registry.root.rglob("*")} == {"etc", "log"}
    assert [secret for secret in secrets if secret in "".join(modules.printed)] == []
    assert "PRIVATE KEY" not in "".join(modules.printed)

"""The private registry, for real: docker-registry runs from what bailey_registry wrote, an engine pushes and pulls.

Needs root, docker-registry, htpasswd and openssl.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bailey.errors import HostError
from bailey.registry import authority, certificates, listeners, server, survey
from bailey.registry.accounts import MissingPasswordError
from bailey.registry.client import RegistryError

from tests.integration.fixtures.registry import IMAGE, LIFETIMES, NAME, PASSWORD, Registry, User

pytest_plugins = ["tests.integration.fixtures.registry"]


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


def test_the_first_run_writes_and_the_second_does_not(registry: Registry) -> None:
    assert registry.converge(check_mode=True).differences
    assert not list(registry.root.iterdir())

    first = registry.converge()
    assert first.differences
    assert first.restart_needed
    written = snapshot(registry.root)

    assert not registry.converge().differences
    assert not registry.converge(check_mode=True).differences
    assert snapshot(registry.root) == written


def test_modes_keep_secrets_from_others(registry: Registry) -> None:
    registry.converge()
    where = registry.locations
    modes = {path: oct(path.stat().st_mode & 0o777) for path in (*where.files, *where.directories) if path.exists()}
    assert modes[where.authority_key] == modes[where.http_secret] == "0o600"
    assert modes[where.certificate] == modes[where.htpasswd] == modes[where.configuration] == "0o640"
    assert modes[where.secrets] == "0o700"
    assert modes[where.config] == modes[where.storage] == "0o750"
    assert where.htpasswd.read_text().startswith("bailey:$2y$")


def test_a_wrong_mode_or_owner_is_corrected(registry: Registry) -> None:
    registry.converge()
    registry.locations.authority_key.chmod(0o644)
    os.chown(registry.locations.storage, 0, 0)
    paths = [item.path for item in registry.converge().differences]
    assert any(path.endswith("ca.key mode") for path in paths)
    assert any(path.endswith("data uid") for path in paths)
    assert not registry.converge().differences


def test_differences_hold_no_secret(registry: Registry) -> None:
    shown = json.dumps(registry.converge().differences.as_diff())
    registry.locations.http_secret.write_text("x" * 40)
    shown += json.dumps(registry.converge().differences.as_diff())
    registry.declared = replace(registry.declared, password="another-long-password")
    shown += json.dumps(registry.converge().differences.as_diff())
    assert "another secret" in shown
    for secret in (PASSWORD, "another-long-password", "x" * 40, registry.locations.http_secret.read_text().strip()):
        assert secret not in shown
    assert "PRIVATE KEY" not in shown


def test_a_healthy_registry_refuses_who_has_no_account(registry: Registry) -> None:
    registry.converge()
    registry.start()
    with registry.client() as client:
        health = survey.check(client, registry.ca)
    assert health.error is None
    assert health.reachable
    assert health.authenticated
    assert health.anonymous_refused
    assert health.certificate_end is not None
    assert timedelta(days=364) < health.certificate_end - datetime.now(UTC) < timedelta(days=366)
    with registry.client("not-the-password") as client:
        health = survey.check(client, registry.ca)
    assert health.error == f"{client.reference}: the username or the password is wrong"
    assert not health.authenticated


def test_a_registry_with_another_authority_is_not_reached(registry: Registry, tmp_path: Path) -> None:
    registry.converge()
    registry.start()
    other = tmp_path / "ca.crt"
    other.write_text(authority.make_authority(None, LIFETIMES, datetime.now(UTC)).certificate)
    with registry.client(ca=other) as client:
        health = survey.check(client, other)
    assert not health.reachable
    assert "not trusted" in str(health.error)


def test_an_engine_pushes_and_pulls(registry: Registry, user: User) -> None:
    registry.converge()
    registry.start()
    assert user.give(registry.ca)
    assert not user.give(registry.ca)
    before = user.must("image", "inspect", "--format", "{{.Id}}", user.image)
    user.must("push", user.image)
    user.must("rmi", user.image)
    user.must("pull", user.image)
    assert user.must("image", "inspect", "--format", "{{.Id}}", user.image) == before

    with registry.client() as client:
        (repository,) = survey.contents(client)
        digest = client.digest(IMAGE, "1")
        assert client.digest(IMAGE, "absent") is None
        assert client.manifest(IMAGE, "absent") is None
    assert repository.name == IMAGE
    assert repository.tags["1"].digest == digest
    assert digest is not None
    assert digest.startswith("sha256:")
    assert 70_000 < repository.size < 75_000


def test_an_engine_refuses_another_authority(registry: Registry, user: User, tmp_path: Path) -> None:
    registry.converge()
    registry.start()
    other = tmp_path / "ca.crt"
    other.write_text(authority.make_authority(None, LIFETIMES, datetime.now(UTC)).certificate)
    user.give(other)
    done = user.docker("push", user.image)
    assert done.returncode != 0
    assert "x509" in done.stderr


def test_an_engine_with_a_wrong_password_is_refused(registry: Registry, user: User) -> None:
    registry.converge()
    registry.start()
    user.give(registry.ca, "not-the-password")
    done = user.docker("push", user.image)
    assert done.returncode != 0
    assert "no basic auth" in done.stderr or "unauthorized" in done.stderr
    with registry.client() as client:
        assert not list(client.repositories())


def test_a_changed_password_works_without_a_restart(registry: Registry) -> None:
    registry.converge()
    registry.start()
    registry.declared = replace(registry.declared, password="another-long-password")
    report = registry.converge()
    assert [Path(item.path).name for item in report.differences] == ["htpasswd"]
    assert not report.restart_needed
    with registry.client("another-long-password") as client:
        client.ping()
    with registry.client() as client, pytest.raises(RegistryError, match="password is wrong"):
        client.ping()


def test_a_certificate_near_its_end_is_renewed(registry: Registry) -> None:
    now = datetime.now(UTC)
    registry.converge(now - timedelta(days=310))
    registry.start()
    with registry.client() as client:
        client.ping()
        assert client.certificate_end is not None
        old_end = client.certificate_end
    ca = registry.ca.read_text()

    report = registry.converge(now)
    assert [Path(item.path).name for item in report.differences] == ["server.pem"]
    assert report.restart_needed
    assert registry.ca.read_text() == ca
    registry.stop()
    registry.start()
    again = registry.converge(now)
    assert not again.differences
    assert not again.restart_needed
    with registry.client() as client:
        client.ping()
        assert client.certificate_end is not None
        assert client.certificate_end > old_end + timedelta(days=300)


def test_the_renewed_authority_is_trusted_with_the_former_certificate(registry: Registry, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    registry.converge(now - timedelta(days=3300))
    former = tmp_path / "ca.crt"
    former.write_text(registry.ca.read_text())
    report = registry.converge(now)
    assert {Path(item.path).name for item in report.differences} == {"ca.crt", "server.pem"}
    registry.start()
    for ca in (former, registry.ca):
        with registry.client(ca=ca) as client:
            client.ping()
    assert former.read_text() != registry.ca.read_text()


def test_another_address_needs_another_certificate(registry: Registry) -> None:
    registry.converge()
    registry.declared = replace(registry.declared, endpoint=replace(registry.declared.endpoint, address="2001:db8::7"))
    report = registry.converge()
    assert {Path(item.path).name for item in report.differences} == {"server.pem"}
    found = certificates.read(registry.locations.certificate.read_text())
    assert found is not None
    assert found.names == {NAME, "2001:db8::7"}


def test_a_port_of_another_program_is_refused(registry: Registry) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", registry.declared.endpoint.port))
        other.listen()
        with pytest.raises(
            HostError, match=rf"port: {registry.declared.endpoint.port} is in use by .*pid {os.getpid()}"
        ):
            registry.converge()
    assert not list(registry.root.iterdir())


@pytest.mark.parametrize(("unshare", "seen"), [([], True), (["unshare", "--pid", "--fork", "--kill-child"], False)])
def test_a_registry_in_a_container_is_not_this_hosts(registry: Registry, unshare: list[str], seen: bool) -> None:
    configuration = str(registry.locations.configuration)
    likeness = f"{registry.root}/likeness"
    Path(likeness).write_text(
        f"#!/bin/bash\nexec -a docker-registry {sys.executable} -c 'input()' serve {configuration}\n"
    )
    with subprocess.Popen([*unshare, "bash", likeness], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 10
        while not any(configuration in other.argv for other in listeners.processes()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert bool(listeners.registries(configuration)) is seen
        assert process.stdin is not None
        process.stdin.close()


def test_a_missing_password_is_refused(registry: Registry) -> None:
    registry.declared = replace(registry.declared, password=None)
    with pytest.raises(MissingPasswordError, match="password: none is given"):
        registry.converge()
    assert not list(registry.root.iterdir())


def test_a_password_is_made_once(registry: Registry) -> None:
    registry.declared = replace(registry.declared, password=None, generate_password=True)
    registry.converge()
    made = registry.locations.password.read_text()
    assert len(made.strip()) == 32
    assert registry.locations.password.stat().st_mode & 0o777 == 0o600
    assert not registry.converge().differences
    registry.start()
    with registry.client(made.strip()) as client:
        client.ping()


def test_a_broken_authority_key_is_not_replaced(registry: Registry) -> None:
    registry.converge()
    registry.locations.authority_key.write_text("not a key")
    before = snapshot(registry.root)
    with pytest.raises(HostError, match="not a private key"):
        registry.converge()
    assert snapshot(registry.root) == before


def test_a_failure_while_writing_says_how_far_it_came(registry: Registry) -> None:
    registry.locations.storage.touch()
    with pytest.raises(HostError, match="data: File exists; written before it: nothing"):
        registry.converge()
    registry.locations.storage.unlink()
    registry.converge()
    assert not registry.converge().differences


def test_absent_removes_all_and_only_that(registry: Registry) -> None:
    registry.converge()
    registry.start()
    with pytest.raises(HostError, match="still serves"):
        server.absent(registry.locations, remove_data=True, check_mode=False)
    registry.stop()
    (registry.locations.storage / "docker").mkdir()
    foreign = registry.locations.storage / "foreign"
    foreign.touch()
    with pytest.raises(HostError, match="also holds foreign"):
        server.absent(registry.locations, remove_data=True, check_mode=False)
    foreign.unlink()

    before = snapshot(registry.root)
    assert server.absent(registry.locations, remove_data=True, check_mode=True)
    assert snapshot(registry.root) == before
    assert server.absent(registry.locations, remove_data=False, check_mode=False)
    assert {path.name for path in registry.root.rglob("*")} == {"data", "docker", "etc", "log"}
    assert server.absent(registry.locations, remove_data=True, check_mode=False)
    assert not registry.locations.storage.exists()
    assert not server.absent(registry.locations, remove_data=True, check_mode=False)

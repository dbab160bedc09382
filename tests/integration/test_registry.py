"""The private registry, for real: docker-registry runs from what bailey_registry wrote, an engine pushes and pulls.

Needs root, docker-registry, htpasswd and openssl.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bailey.errors import HostError
from bailey.registry import authority, certificates, listeners, server, survey
from bailey.registry import engine as engine_files
from bailey.registry.accounts import MissingPasswordError
from bailey.registry.authority import Lifetimes
from bailey.registry.client import Credentials, RegistryClient, RegistryError
from bailey.registry.settings import Endpoint, Locations

from tests.ground.engine import Engine

REPOSITORY = Path(__file__).parents[2]
NAME = "registry-test.bailey.internal"
ACCOUNT = "daemon"  # an account of every Debian, with a group of its name
PASSWORD = "only-for-this-test"
IMAGE = "bailey-registry-test"
LIFETIMES = Lifetimes(certificate_days=365, renew_before_days=60, authority_days=3650)


def primary_address() -> str:
    """The address from which this host would leave; nothing is sent."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


@dataclass
class Registry:
    """A registry of the test's own in a directory of its own."""

    root: Path
    declared: server.Declared
    process: subprocess.Popen[bytes] | None = None
    log: list[str] = field(default_factory=list)

    @property
    def locations(self) -> Locations:
        return self.declared.locations

    @property
    def ca(self) -> Path:
        return self.locations.authority_certificate

    def converge(self, now: datetime | None = None, *, check_mode: bool = False) -> server.Report:
        return server.present(self.declared, now or datetime.now(UTC), check_mode=check_mode)

    def start(self) -> None:
        output = (self.root / "log").open("ab")
        argv = ["docker-registry", "serve", str(self.locations.configuration)]
        self.process = subprocess.Popen(
            argv, user=ACCOUNT, group=ACCOUNT, extra_groups=[], stdout=output, stderr=output
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with closing(socket.socket()) as probe:
                if probe.connect_ex((self.declared.endpoint.address, self.declared.endpoint.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail(f"the registry does not listen: {(self.root / 'log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def client(self, password: str | None = PASSWORD, ca: Path | None = None) -> RegistryClient:
        credentials = Credentials("bailey", password) if password else None
        endpoint = self.declared.endpoint
        return RegistryClient(NAME, endpoint.port, ca or self.ca, credentials, address=endpoint.address)


@pytest.fixture
def registry() -> Iterator[Registry]:
    root = Path(tempfile.mkdtemp(prefix="bailey-registry-test-"))
    root.chmod(0o755)
    address = primary_address()
    declared = server.Declared(
        endpoint=Endpoint.parse(NAME, address, None, free_port()),
        locations=Locations(root / "etc/registry", root / "etc/pki", root / "etc/secrets", root / "data"),
        lifetimes=LIFETIMES,
        account=ACCOUNT,
        username="bailey",
        password=PASSWORD,
        generate_password=False,
    )
    made = Registry(root, declared)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(root)


@dataclass(frozen=True)
class User:
    """Who uses the engine, with trust in and a login to one registry."""

    engine: Engine
    files: engine_files.EngineFiles
    image: str

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = ["docker", "--host", self.engine.docker_host, "--config", str(self.files.config.parent), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def must(self, *arguments: str) -> str:
        done = self.docker(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def await_name(self) -> None:
        """Wait until the engine finds the registry's name: Go's resolver reads /etc/hosts every five seconds only."""
        deadline = time.monotonic() + 15
        while "no such host" in self.docker("pull", self.image).stderr:
            assert time.monotonic() < deadline, "the engine does not find the registry's name"
            time.sleep(0.3)

    def give(self, ca: Path, password: str = PASSWORD) -> bool:
        credentials = Credentials("bailey", password)
        return bool(engine_files.present(self.files, ca.read_text(), credentials, check_mode=False))


@contextmanager
def hosts_entry(line: str) -> Iterator[None]:
    """A line in /etc/hosts, written in place: in a container that file cannot be replaced."""
    hosts = Path("/etc/hosts")
    hosts.write_text(hosts.read_text().rstrip("\n") + f"\n{line}\n")
    try:
        yield
    finally:
        hosts.write_text("".join(f"{kept}\n" for kept in hosts.read_text().splitlines() if kept != line))


@pytest.fixture
def user(registry: Registry, engine: Engine) -> Iterator[User]:
    reference = f"{NAME}:{registry.declared.endpoint.port}"
    files = engine_files.EngineFiles(reference, engine_files.CERTS_D, registry.root / "docker" / "config.json")
    made = User(engine, files, f"{reference}/{IMAGE}:1")
    with ExitStack() as stack:
        stack.enter_context(hosts_entry(f"{registry.declared.endpoint.address} {NAME}"))
        stack.callback(lambda: engine_files.absent(files, check_mode=False))
        made.await_name()
        archive = registry.root / "rootfs.tar"
        with tarfile.open(archive, "w") as tar, Path("/dev/urandom").open("rb") as noise:
            member = tarfile.TarInfo("content")
            member.size = 70_000
            tar.addfile(member, noise)
        made.must("import", str(archive), made.image)
        stack.callback(lambda: made.docker("rmi", "--force", made.image))
        yield made


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

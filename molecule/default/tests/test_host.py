"""What a provisioned host does, seen from the host itself: its services run, its engine and registry answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

SERVICES = {"docker": "dockerd", "bailey-registry": "docker-registry"}


def logs(host: Host, service: str) -> str:
    """Return the end of a service's log, for the message of a test that fails."""
    return str(host.run(f"journalctl --no-pager --lines 30 --unit {service} 2>&1 || true").stdout)


def is_systemd(host: Host) -> bool:
    return bool(host.file("/run/systemd/system").exists)


def engine(host: Host) -> dict[str, Any]:
    return dict(json.loads(host.check_output("docker info --format '{{json .}}'")))


@pytest.mark.parametrize(("service", "program"), SERVICES.items())
def test_a_service_runs_and_is_supervised(host: Host, service: str, program: str) -> None:
    processes = host.process.filter(comm=program)
    assert len(processes) == 1, logs(host, service)
    if is_systemd(host):
        unit = host.service(service)
        assert unit.is_running
        assert unit.is_enabled
    else:
        assert host.check_output(f"sv status /etc/bailey/service/{service}").startswith("run:")


def test_a_service_that_dies_comes_back(host: Host) -> None:
    before = host.process.get(comm="docker-registry").pid
    host.check_output(f"kill -9 {before}")
    host.check_output(
        "for try in $(seq 100); do"
        f' pid=$(pgrep -x docker-registry) && [ "$pid" != {before} ] && exit 0; sleep 0.2; done; exit 1'
    )


def test_the_agent_runs_and_comes_back(host: Host) -> None:
    find = "pgrep -f '^/usr/bin/python3 -m bailey.agent'"
    before = host.check_output(find)
    host.check_output(f"kill -9 {before}")
    host.check_output(
        f'for try in $(seq 100); do pid=$({find}) && [ "$pid" != {before} ] &&'
        " python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:9464/metrics\")' 2>/dev/null && exit 0;"
        " sleep 0.2; done; exit 1"
    )
    if is_systemd(host):
        assert host.service("baileyd").is_enabled, logs(host, "baileyd")


def test_the_engine_holds_what_was_declared(host: Host) -> None:
    information = engine(host)
    assert information["LiveRestoreEnabled"] is True
    assert information["Driver"] == "overlay2"
    assert "crun" in information["Runtimes"]
    # Of a container that asks for nothing: what holds for it is the engine's own setting.
    image = "registry.bailey.internal:5000/bailey/base:current"
    status = host.check_output(f"docker run --rm --network none {image} cat /proc/self/status")
    assert "NoNewPrivs:\t1" in status


def test_a_user_of_the_host_cannot_read_its_secrets(host: Host) -> None:
    secrets = host.file("/etc/bailey/secrets")
    assert secrets.is_directory
    assert (secrets.user, secrets.mode) == ("root", 0o700)
    open_files = host.check_output("find /etc/bailey/secrets -type f -perm /077")
    assert open_files == ""


def test_the_registry_refuses_a_stranger_and_speaks_tls(host: Host) -> None:
    name = "registry.bailey.internal:5000"
    program = (
        "import ssl, urllib.request, urllib.error\n"
        f"context = ssl.create_default_context(cafile='/etc/docker/certs.d/{name}/ca.crt')\n"
        "try:\n"
        f"    urllib.request.urlopen('https://{name}/v2/', context=context)\n"
        "except urllib.error.HTTPError as error:\n"
        "    print(error.code)\n"
    )
    assert host.check_output("python3 -c %s", program).strip() == "401"


def test_every_instance_answers_behind_its_limits(host: Host) -> None:
    containers = host.check_output("docker ps --filter label=bailey.name --format '{{.Names}}'").split()
    assert len(containers) == 3
    for container in containers:
        state = json.loads(host.check_output("docker inspect %s", container))[0]
        assert state["HostConfig"]["ReadonlyRootfs"] is True
        assert state["HostConfig"]["CapDrop"] == ["ALL"]
        assert state["HostConfig"]["Memory"] > 0
        assert state["HostConfig"]["PidsLimit"] > 0
        assert state["Config"]["User"].split(":")[0] not in ("", "0", "root")
        assert state["Config"]["Entrypoint"] == ["/.bailey/wshd"]


def test_every_instance_is_past_its_gate_and_answers_wsh(host: Host) -> None:
    rows = [line.split() for line in host.check_output("wsh ls").splitlines()[1:]]
    assert [row[2] for row in rows] == ["open"] * 3, rows
    for name, *_ in rows:
        assert host.check_output(f"wsh {name} -- cat /etc/hostname") == name
        assert host.run(f"wsh {name} -- sh -c 'exit 7'").rc == 7


def test_a_restart_passes_the_gate_again(host: Host) -> None:
    before = host.check_output("docker inspect --format '{{.State.Pid}}' clara-site-1")
    host.check_output("docker restart clara-site-1")
    host.check_output(
        "for try in $(seq 100); do wsh clara-site-1 -- true 2>/dev/null && exit 0; sleep 0.1; done; exit 1"
    )
    assert host.check_output("docker inspect --format '{{.State.Pid}}' clara-site-1") != before


@pytest.mark.parametrize(
    ("port", "path", "text"),
    [
        (8001, "/codes/countries.json", "Zimbabwe"),
        (8002, "/zones", "Europe/Andorra"),
        (8003, "/", "<title>Bailey</title>"),
    ],
)
def test_a_tenant_answers_with_its_real_content(host: Host, port: int, path: str, text: str) -> None:
    address = f"http://127.0.0.1:{port}{path}?_size=max"
    program = f"import urllib.request; print(urllib.request.urlopen({address!r}).read().decode())"
    assert text in host.check_output("python3 -c %s", program)


def test_nothing_in_the_images_is_taken_for_hostile(host: Host) -> None:
    """YARA's rules over every file of every image that tenants are built from."""
    images = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}'").split()
    ours = [image for image in images if "/bailey/" in image and image.endswith(":current")]
    assert ours
    rules = "/usr/lib/bailey/releases/*/bailey/scan/rules/*.yar"
    for image in ours:
        found = host.check_output(
            f"tree=$(mktemp -d) && id=$(docker create {image} true) &&"
            " docker export $id | tar x -C $tree --exclude='dev/*' && docker rm $id >/dev/null &&"
            f" yara -w -r -N -f -p 2 {rules} $tree 2>/dev/null; rm -rf $tree"
        )
        assert found == "", image


def test_the_agent_scans(host: Host) -> None:
    asked = json.dumps({"op": "scan", "names": [], "rules": {}, "act": False})
    program = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/bailey/agent.sock');"
        f" s.sendall(b'{asked}\\n'); print(s.makefile().readline())"
    )
    answer = json.loads(host.check_output("python3 -c %s", program))
    assert answer["ok"] is True, answer
    assert answer["findings"] == []
    assert answer["summary"]["complete"] is True

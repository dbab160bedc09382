"""The network of builds: made once, whoever comes first, and used by every build that names no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from plugins.module_utils.bailey.errors import HostError
from plugins.module_utils.bailey.images import manage
from plugins.module_utils.bailey.images.engine import BUILD_NETWORK
from plugins.module_utils.bailey.images.engine import Engine as ImageEngine
from plugins.module_utils.bailey.images.reference import parse_repository
from tests.ground.engine import Engine
from tests.integration.fixtures.images import NAME, build, present

pytest_plugins = ["tests.integration.fixtures.images"]

DOCKERFILE = "ARG BASE\nFROM ${BASE}\nRUN ip route > /route\n"


def networks(engine: Engine) -> list[str]:
    """Return the IDs of the networks of that very name."""
    listed = engine.docker("network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}").splitlines()
    return [line.split()[0] for line in listed if line.split()[1] == BUILD_NETWORK]


def inspected(engine: Engine) -> dict[str, Any]:
    return dict(json.loads(engine.docker("network", "inspect", BUILD_NETWORK))[0])


def route(engine: Engine, name: str = NAME) -> str:
    """Return where the build of an image sent its packets."""
    return engine.docker("run", "--rm", "--network", "none", f"{name}:current", "cat", "/route")


@pytest.fixture
def fresh(engine: Engine, left: Callable[[], set[str]]) -> Iterator[Engine]:
    """An engine without the network of builds."""
    assert left() == set()
    for network in networks(engine):
        engine.docker("network", "rm", network)
    yield engine
    for network in networks(engine):
        engine.docker("network", "rm", network)


def test_a_build_has_a_bridge_of_its_own(
    fresh: Engine, images: ImageEngine, base_image: str, declared: manage.Desired
) -> None:
    present(images, replace(declared, source=build(DOCKERFILE, base_image)))
    network = inspected(fresh)
    assert network["Labels"] == {"bailey.network": "build"}
    assert f"default via {network['IPAM']['Config'][0]['Gateway']} " in route(fresh)


def test_a_build_that_names_a_network_has_that_one(
    fresh: Engine, images: ImageEngine, base_image: str, declared: manage.Desired
) -> None:
    present(images, replace(declared, source=replace(build(DOCKERFILE, base_image), network="none")))
    assert networks(fresh) == []
    assert route(fresh) == ""


def test_builds_at_once_make_one_network(fresh: Engine, base_image: str, declared: manage.Desired) -> None:
    def one(number: int) -> None:
        source = build(f"{DOCKERFILE}LABEL n={number}\n", base_image)
        repository = parse_repository("name", f"{NAME}-{number}")
        with closing(ImageEngine(fresh.docker_host, timeout=120)) as images:
            present(images, replace(declared, repository=repository, source=source))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert len(networks(fresh)) == 1


def test_a_network_of_somebody_elses_is_not_taken(
    fresh: Engine, images: ImageEngine, base_image: str, declared: manage.Desired
) -> None:
    fresh.docker("network", "create", BUILD_NETWORK)
    with pytest.raises(HostError, match=r"build\.network: .* is not Bailey's"):
        present(images, replace(declared, source=build(DOCKERFILE, base_image)))

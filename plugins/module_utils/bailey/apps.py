"""Apps as tenants declare them, spread out into instances.

An app is a spec without a name, with `tenant`, `name` (the app's) and `instances`, a count. Instance
number N of app A of tenant T is named T-A-N; an app's published ports count up with its instances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import InvalidValueError
from .fields import Fields
from .names import parse_name
from .spec import SPEC_FIELDS
from .units import parse_count

_OWN_FIELDS = ("name", "tenant", "instances", "state")
APP_FIELDS = tuple(sorted({*SPEC_FIELDS, *_OWN_FIELDS} - {"app"}))


def expand_apps(apps: object) -> list[dict[str, object]]:
    """Return the container declarations of a list of apps, in order.

    Raises InvalidValueError for an unknown field, a bad name or count, or two apps of one tenant and name.
    """
    if not isinstance(apps, Sequence) or isinstance(apps, str):
        raise InvalidValueError("tenants_apps", apps, "a list of apps")
    declarations: list[dict[str, object]] = []
    seen: set[tuple[str, str]] = set()
    for number, app in enumerate(apps):
        fields = Fields(f"tenants_apps[{number}]", app, APP_FIELDS)
        name = parse_name(fields.path("name"), fields.required("name", "the app's name"))
        tenant = parse_name(fields.path("tenant"), fields.required("tenant", "the owner of the code"))
        if (tenant, name) in seen:
            raise InvalidValueError(fields.path("name"), name, f"a name that no other app of {tenant} has")
        seen.add((tenant, name))
        count = parse_count(fields.path("instances"), fields.get("instances", 1), 0, 1000)
        common = {key: fields.get(key) for key in (*SPEC_FIELDS, "state") if key in fields}
        declarations.extend(
            {**common, "name": f"{tenant}-{name}-{index + 1}", "tenant": tenant, "app": name, **_ports(fields, index)}
            for index in range(count)
        )
    return declarations


def _ports(fields: Fields, index: int) -> dict[str, object]:
    """Return the ports of one instance: each published port counted up by the instance's index."""
    if "ports" not in fields:
        return {}
    ports: list[object] = []
    for number, port in enumerate(fields.items("ports")):
        path = f"{fields.path('ports')}[{number}]"
        if not isinstance(port, Mapping):
            raise InvalidValueError(path, port, "a mapping of published, target and optionally host_ip and protocol")
        published = parse_count(f"{path}.published", port.get("published"), 1, 65535)
        ports.append({**port, "published": published + index})
    return {"ports": ports}

#!/usr/bin/env python3
"""Checks compose.yaml and the proxy's configuration statically (needs PyYAML).

Every service has a health check; only the proxy and the broker publish ports, on the loopback interface; every port, package and
file that one configuration refers to exists.
"""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
PUBLISHED = {"proxy": "7000", "nats": "4222"}
PORTS = {"registry": 7010, "trainer": 7020, "monitor": 7030, "orchestrator": 7040, "inference": 8001}


def packages():
    """Packages that have a service, from the .proto files."""
    texts = [path.read_text() for path in (ROOT / "proto/proto").rglob("*.proto")]
    return {re.search(r"^package ([\w.]+);", text, re.M)[1] for text in texts if re.search(r"^service ", text, re.M)}


def check_service(name, service):
    if "healthcheck" not in service:
        yield f"{name}: no health check"
    for port in service.get("ports", []):
        if PUBLISHED.get(name) != port.rsplit(":", 1)[-1] or "127.0.0.1" not in port:
            yield f"{name}: publishes {port}"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./") and not (ROOT / source).is_file():
            yield f"{name}: {source} does not exist"
    if service.get("image") == "rekindle":
        kind = service["command"][-1]
        if service["command"] != ["serve", kind] or service["healthcheck"]["test"][-1] != str(PORTS[kind] + 1):
            yield f"{name}: command and health check do not match"


def check_proxy(proxy, services):
    resources = proxy["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    clusters = {cluster["name"]: cluster for cluster in resources["clusters"]}
    prefixes = {route["match"]["prefix"]: route["route"]["cluster"] for route in routes}
    for package in packages():
        if f"/{package}." not in prefixes:
            yield f"proxy: no route for package {package}"
    for prefix, cluster in prefixes.items():
        if cluster not in clusters:
            yield f"proxy: {prefix} is routed to {cluster}, which is not a cluster"
    for name, cluster in clusters.items():
        for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]:
            address = endpoint["endpoint"]["address"]["socket_address"]
            if address["address"] not in services or address["port_value"] != PORTS[name]:
                yield f"proxy: cluster {name} has the endpoint {address}"


def main():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    proxy = yaml.safe_load((ROOT / "deploy/envoy.yaml").read_text())
    services = compose["services"]
    problems = [problem for name, service in services.items() for problem in check_service(name, service)]
    problems += check_proxy(proxy, services)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

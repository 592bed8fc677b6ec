#!/usr/bin/env python3
"""Checks compose.yaml and the proxy's configuration statically (needs PyYAML).

Every service has a health check, limits of memory and of its log; only the proxy and the broker publish ports, on the loopback interface;
no password has a default; every port, package and file that one configuration refers to exists.
"""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
PUBLISHED = {"proxy": {"7000", "8000", "5000"}, "nats": {"4222"}}
# The port of each service for gRPC; that for HTTP is the next one.
PORTS = {"registry": 7010, "trainer": 7020, "monitor": 7030, "orchestrator": 7040, "inference": 8001}
# Clusters of the proxy besides those of gRPC: service and port.
HTTP = {"inference-rest": ("inference", 8000), "registry-http": ("registry", 7011)}


def packages():
    """Packages that have a service, from the .proto files."""
    texts = [path.read_text() for path in (ROOT / "proto/proto").rglob("*.proto")]
    return {re.search(r"^package ([\w.]+);", text, re.M)[1] for text in texts if re.search(r"^service ", text, re.M)}


def check_service(name, service):
    for key in ("healthcheck", "mem_limit", "logging"):
        if key not in service:
            yield f"{name}: no {key}"
    if re.search(r"\$\{\w*(PASSWORD|SECRET)\w*:?-", str(service)):
        yield f"{name}: a password has a default"
    for port in service.get("ports", []):
        if port.rsplit(":", 1)[-1] not in PUBLISHED.get(name, ()) or "127.0.0.1" not in port:
            yield f"{name}: publishes {port}"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./") and not (ROOT / source).is_file():
            yield f"{name}: {source} does not exist"
    if service.get("image") == "rekindle":
        kind = service["command"][-1]
        if service["command"] != ["serve", kind] or service["healthcheck"]["test"][-1] != str(PORTS[kind] + 1):
            yield f"{name}: command and health check do not match"


def check_secrets(compose):
    declared = set(compose["secrets"])
    for name, service in compose["services"].items():
        used = set(re.findall(r"/run/secrets/(\w+)", str(service)))
        given = set(service.get("secrets", []))
        if name == "nats":
            used |= set(re.findall(r"/run/secrets/(\w+)", (ROOT / "deploy/nats.conf").read_text()))
        if used != given or not given <= declared:
            yield f"{name}: reads the secrets {sorted(used)} and is given {sorted(given)}"


def check_metrics(config):
    targets = {target["names"][0]: target["port"] for target in config["scrape_configs"][0]["dns_sd_configs"]}
    if targets != {name: port + 1 for name, port in PORTS.items()}:
        yield f"prometheus: scrapes {targets}"


def routes_of(listener):
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager["route_config"]["virtual_hosts"][0]["routes"]


def check_proxy(proxy, services):
    resources = proxy["static_resources"]
    listeners = {listener["name"]: listener for listener in resources["listeners"]}
    ports = {str(listener["address"]["socket_address"]["port_value"]) for listener in listeners.values()}
    if ports != PUBLISHED["proxy"]:
        yield f"proxy: listens on {sorted(ports)}"
    routes = routes_of(listeners["grpc"])
    clusters = {cluster["name"]: cluster for cluster in resources["clusters"]}
    prefixes = {route["match"]["prefix"]: route["route"]["cluster"] for route in routes if "headers" not in route["match"]}
    by_header = {
        route["match"]["headers"][0]["string_match"]["exact"]: route["route"]["cluster"]
        for route in routes
        if "headers" in route["match"]
    }
    if by_header != {name: name for name in PORTS if name != "inference"}:
        yield f"proxy: the health of services is routed as {by_header}"
    for name in ("rest", "mlflow"):
        prefixes |= {f"{name} {route['match']}": route["route"]["cluster"] for route in routes_of(listeners[name])}
    for package in packages():
        if f"/{package}." not in prefixes:
            yield f"proxy: no route for package {package}"
    for prefix, cluster in prefixes.items():
        if cluster not in clusters:
            yield f"proxy: {prefix} is routed to {cluster}, which is not a cluster"
    for name, cluster in clusters.items():
        for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]:
            address = endpoint["endpoint"]["address"]["socket_address"]
            expected = HTTP.get(name) or (name, PORTS.get(name))
            if (address["address"], address["port_value"]) != expected or expected[0] not in services:
                yield f"proxy: cluster {name} has the endpoint {address}"


def main():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    proxy = yaml.safe_load((ROOT / "deploy/envoy.yaml").read_text())
    services = compose["services"]
    problems = [problem for name, service in services.items() for problem in check_service(name, service)]
    problems += check_proxy(proxy, services)
    problems += check_secrets(compose)
    tested = re.search(r"^ENVOY_VERSION=(.*)$", (ROOT / "scripts/install-tools.sh").read_text(), re.M)[1]
    if services["proxy"]["image"] != f"envoyproxy/envoy:v{tested}":
        problems.append(f"proxy: the tests run Envoy {tested}, and the image is {services['proxy']['image']}")
    problems += check_metrics(yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text()))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Tables of services, endpoints, ingresses and network policies."""

from typing import Final

from corral.kinds.tables.printer import AGE, NAME, Printers, of_spec, printer, spec, status, text
from corral.kinds.tables.texts import NONE, labels_text, selector_or_none, shortened
from corral.kinds.types import Obj


def _balancer(obj: Obj) -> str:
    ingress = (status(obj).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(sorted({found for point in ingress if (found := point.get("ip") or point.get("hostname"))}))


def _external_ip(service: Obj) -> str:
    declared = ",".join(spec(service).get("externalIPs") or ())
    type_ = spec(service).get("type") or "ClusterIP"
    if type_ in ("ClusterIP", "NodePort"):
        return declared or NONE
    if type_ == "LoadBalancer":
        return ",".join(part for part in (_balancer(service), declared) if part) or "<pending>"
    return spec(service).get("externalName") or "" if type_ == "ExternalName" else "<unknown>"


def _cluster_ip(service: Obj) -> str:
    every = spec(service).get("clusterIPs") or [spec(service).get("clusterIP")]
    return every[0] or NONE


def _port(port: Obj) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol') or 'TCP'}"


def _ports(service: Obj) -> str:
    return ",".join(_port(port) for port in spec(service).get("ports") or ()) or NONE


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _endpoints(endpoints: Obj) -> str:
    found: list[str] = []
    for subset in endpoints.get("subsets") or ():
        addresses = [address.get("ip", "") for address in subset.get("addresses") or ()]
        ports = subset.get("ports")
        found += [_host_port(ip, port["port"]) for port in ports for ip in addresses] if ports else addresses
    return shortened(found, len(found), empty="" if endpoints.get("subsets") else NONE)


def _slice_ports(endpoint_slice: Obj) -> str:
    ports = [str(port.get("port") or port.get("name") or "*") for port in endpoint_slice.get("ports") or ()]
    return shortened(ports, len(ports))


def _slice_endpoints(endpoint_slice: Obj) -> str:
    addresses = [ip for point in endpoint_slice.get("endpoints") or () for ip in point.get("addresses") or ()]
    return shortened(addresses, len(addresses))


def _hosts(ingress: Obj) -> str:
    rules = spec(ingress).get("rules") or ()
    hosts = [rule["host"] for rule in rules if rule.get("host")]
    listed = ",".join(hosts[:3]) or "*"
    # As in Kubernetes, rules without a host count among those left out.
    seen = [index for index, rule in enumerate(rules) if rule.get("host")]
    more = len(hosts) >= 3 and len(rules) > seen[2] + 1
    return f"{listed} + {len(rules) - 3} more..." if more else listed


def _parameters(ingress_class: Obj) -> str:
    parameters = spec(ingress_class).get("parameters")
    if not parameters:
        return NONE
    group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
    return f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"


def _parent(address: Obj) -> str:
    parent = spec(address).get("parentRef")
    if not parent:
        return NONE
    group = f".{parent['group']}" if parent.get("group") else ""
    namespace = f"/{parent['namespace']}" if parent.get("namespace") else ""
    return f"{parent.get('resource', '')}{group}".lower() + f"{namespace}/{parent.get('name', '')}"


PRINTERS: Final[Printers] = {
    ("", "services"): printer(
        NAME,
        text("Type", of_spec("type")),
        text("Cluster-IP", _cluster_ip),
        text("External-IP", _external_ip),
        text("Port(s)", _ports),
        AGE,
        text("Selector", lambda obj: labels_text(spec(obj).get("selector")), wide=True),
    ),
    ("", "endpoints"): printer(NAME, text("Endpoints", _endpoints), AGE),
    ("discovery.k8s.io", "endpointslices"): printer(
        NAME,
        text("AddressType", lambda obj: obj.get("addressType", "")),
        text("Ports", _slice_ports),
        text("Endpoints", _slice_endpoints),
        AGE,
    ),
    ("networking.k8s.io", "ingresses"): printer(
        NAME,
        text("Class", of_spec("ingressClassName", NONE)),
        text("Hosts", _hosts),
        text("Address", _balancer),
        text("Ports", lambda obj: "80, 443" if spec(obj).get("tls") else "80"),
        AGE,
    ),
    ("networking.k8s.io", "ingressclasses"): printer(
        NAME, text("Controller", of_spec("controller")), text("Parameters", _parameters), AGE
    ),
    ("networking.k8s.io", "networkpolicies"): printer(
        NAME, text("Pod-Selector", lambda obj: selector_or_none(spec(obj).get("podSelector"))), AGE
    ),
    ("networking.k8s.io", "servicecidrs"): printer(
        NAME, text("CIDRs", lambda obj: ",".join(spec(obj).get("cidrs") or ())), AGE
    ),
    ("networking.k8s.io", "ipaddresses"): printer(NAME, text("ParentRef", _parent), AGE),
}

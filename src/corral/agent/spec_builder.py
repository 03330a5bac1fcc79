"""From a pod to what the runtime is to make of it. Pure.

Formulas (cpu shares, quotas, oom_score_adj) are the kubelet's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.agent import gpus
from corral.agent.env import ConfigError, expand
from corral.agent.layout import Layout
from corral.agent.runtime.api import ContainerSpec, Mount, PortMapping, Resources, SandboxSpec, Security
from corral.base.quantities import milli, whole
from corral.kinds.accelerators import devices_text
from corral.kinds.podspec import pod_limits, pod_requests, qos_class
from corral.kinds.types import Obj

PERIOD = 100_000
MIN_QUOTA = 1_000
MIN_SHARES, MAX_SHARES = 2, 262_144
TERMINATION_PATH = "/dev/termination-log"

_GUARANTEED, _BEST_EFFORT = -997, 1000
_SYSTEM_CRITICAL = 2_000_000_000


def shares(millicores: int) -> int:
    """cgroup v1's cpu.shares of a request."""
    return min(MAX_SHARES, max(MIN_SHARES, millicores * 1024 // 1000))


def quota(millicores: int) -> int:
    """Microseconds of CPU time in each period; 0 for no limit."""
    return max(MIN_QUOTA, millicores * PERIOD // 1000) if millicores else 0


def oom_score_adj(pod: Obj, container: Obj, machine_memory: int) -> int:
    """How willingly the kernel kills the container when memory runs out."""
    if int(pod["spec"].get("priority") or 0) >= _SYSTEM_CRITICAL:
        return _GUARANTEED
    qos = qos_class(pod)
    if qos == "Guaranteed":
        return _GUARANTEED
    if qos == "BestEffort":
        return _BEST_EFFORT
    request = whole((((container.get("resources") or {}).get("requests")) or {}).get("memory", 0))
    score = 1000 - 1000 * request // max(machine_memory, 1)
    return max(1000 + _GUARANTEED, min(score, _BEST_EFFORT - 1))


def hostname_of(pod: Obj) -> str:
    """The pod's own host name, within the kernel's 63 characters."""
    name = str(pod["spec"].get("hostnameOverride") or pod["spec"].get("hostname") or pod["metadata"]["name"])
    return name[:63].rstrip("-.")


def sandbox_spec(pod: Obj, sandbox_id: str, *, machine_name: str, pids_limit: int = 0) -> SandboxSpec:
    """The pod's shared namespaces and its cgroup."""
    spec, metadata = pod["spec"], pod["metadata"]
    host_network = bool(spec.get("hostNetwork"))
    requests, limits = pod_requests(pod), pod_limits(pod)
    limited = _every_container_limits(pod)
    context = spec.get("securityContext") or {}
    return SandboxSpec(
        id=sandbox_id,
        pod_uid=metadata["uid"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        hostname=machine_name if host_network else hostname_of(pod),
        host_network=host_network,
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        share_process_namespace=bool(spec.get("shareProcessNamespace")),
        ports=() if host_network else _ports(pod),
        sysctls={entry["name"]: str(entry.get("value", "")) for entry in context.get("sysctls") or ()},
        cpu_weight=shares(requests.get("cpu", 0)),
        cpu_quota=quota(limits["cpu"]) if "cpu" in limited and "cpu" in limits else 0,
        memory_limit=limits["memory"] if "memory" in limited and "memory" in limits else 0,
        pids_limit=pids_limit,
    )


def _every_container_limits(pod: Obj) -> set[str]:
    """Resources that each container limits: only then the sum is a limit of the pod."""
    pod_level = ((pod["spec"].get("resources") or {}).get("limits")) or {}
    everyone = [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
    return {
        name
        for name in ("cpu", "memory")
        if name in pod_level
        or all(name in (((found.get("resources") or {}).get("limits")) or {}) for found in everyone)
    }


def _ports(pod: Obj) -> tuple[PortMapping, ...]:
    everyone = [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
    return tuple(
        PortMapping(port["hostPort"], port["containerPort"], port.get("protocol") or "TCP", port.get("hostIP") or "")
        for container in everyone
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where on this machine the parts of one container are."""

    id: str
    sandbox_id: str
    attempt: int
    image: str
    layout: Layout
    mounts: Sequence[Mount]
    """The container's volume mounts."""
    machine_memory: int
    target_pid_namespace: str = ""


def container_spec(pod: Obj, container: Obj, env: Sequence[tuple[str, str]], place: Place) -> ContainerSpec:
    """The container, ready for the runtime.

    Raises:
        ConfigError: its security context contradicts itself.
    """
    uid, name = pod["metadata"]["uid"], container["name"]
    variables = dict(env)
    variables.setdefault("HOSTNAME", hostname_of(pod))
    devices = gpus.seen_by(pod, container)
    if devices:
        variables[gpus.VISIBLE] = devices_text(devices)
    termination = place.layout.termination_log(uid, name, place.attempt)
    own = [
        *_etc_mounts(pod, container, place),
        Mount(str(termination), container.get("terminationMessagePath") or TERMINATION_PATH),
    ]
    targets = {mount.target for mount in place.mounts}
    return ContainerSpec(
        id=place.id,
        sandbox_id=place.sandbox_id,
        name=name,
        attempt=place.attempt,
        image=place.image,
        command=tuple(expand(word, variables) for word in container.get("command") or ()),
        args=tuple(expand(word, variables) for word in container.get("args") or ()),
        env=tuple(variables.items()),
        working_dir=container.get("workingDir") or "",
        mounts=(*place.mounts, *(mount for mount in own if mount.target not in targets)),
        resources=resources(pod, container, place.machine_memory),
        security=security(pod, container),
        tty=bool(container.get("tty")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        log_path=str(place.layout.log(pod, name, place.attempt)),
        target_pid_namespace=place.target_pid_namespace,
        devices=gpus.paths(devices),
    )


def _etc_mounts(pod: Obj, container: Obj, place: Place) -> list[Mount]:
    etc = place.layout.etc(pod["metadata"]["uid"])
    read_only = bool((container.get("securityContext") or {}).get("readOnlyRootFilesystem"))
    return [Mount(str(etc / name), f"/etc/{name}", read_only) for name in ("hosts", "hostname", "resolv.conf")]


def resources(pod: Obj, container: Obj, machine_memory: int) -> Resources:
    """What its cgroup enforces."""
    requests = (container.get("resources") or {}).get("requests") or {}
    limits = (container.get("resources") or {}).get("limits") or {}
    cpu_request = milli(requests.get("cpu", limits.get("cpu", 0)))
    return Resources(
        cpu_shares=shares(cpu_request),
        cpu_quota=quota(milli(limits["cpu"])) if "cpu" in limits else 0,
        memory_limit=whole(limits["memory"]) if "memory" in limits else 0,
        oom_score_adj=oom_score_adj(pod, container, machine_memory),
    )


def security(pod: Obj, container: Obj) -> Security:
    """The pod's security context with the container's on top.

    Raises:
        ConfigError: `runAsNonRoot` with user 0.
    """
    of_pod = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}

    def merged(name: str) -> object:
        return own[name] if own.get(name) is not None else of_pod.get(name)

    user, group = merged("runAsUser"), merged("runAsGroup")
    non_root = bool(merged("runAsNonRoot"))
    if non_root and user == 0:
        raise ConfigError(
            f"container's runAsUser breaks non-root policy (pod: {pod['metadata']['name']}, "
            f"container: {container['name']})",
            "set runAsUser to another user, or runAsNonRoot to false",
        )
    privileged = bool(own.get("privileged"))
    capabilities = own.get("capabilities") or {}
    groups = [*(of_pod.get("supplementalGroups") or ())]
    if of_pod.get("fsGroup") is not None:
        groups.append(of_pod["fsGroup"])
    return Security(
        privileged=privileged,
        user=_user(user, group),
        run_as_non_root=non_root,
        supplemental_groups=tuple(dict.fromkeys(groups)),
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        allow_privilege_escalation=_may_escalate(own, privileged),
        seccomp=_seccomp(own.get("seccompProfile") or of_pod.get("seccompProfile"), privileged),
    )


def _user(user: object, group: object) -> str:
    if user is None:
        return f"0:{group}" if group is not None else ""
    return f"{user}:{group}" if group is not None else str(user)


def _may_escalate(own: Obj, privileged: bool) -> bool:
    """Kubernetes allows it unless told otherwise."""
    asked = own.get("allowPrivilegeEscalation")
    return privileged or asked is None or bool(asked)


def _seccomp(profile: Obj | None, privileged: bool) -> str:
    if privileged:
        return "Unconfined"
    kind = (profile or {}).get("type") or "RuntimeDefault"
    return str((profile or {}).get("localhostProfile") or "") if kind == "Localhost" else kind


@dataclass(frozen=True, slots=True)
class Dns:
    """What resolv.conf is made of: the machine's own, and the cluster's if there is one."""

    machine_servers: Sequence[str] = ()
    machine_searches: Sequence[str] = ()
    cluster_servers: Sequence[str] = ()
    cluster_domain: str = "cluster.local"


_MAX_SERVERS, _MAX_SEARCHES = 3, 32


def etc_files(pod: Obj, addresses: Sequence[str], dns: Dns, machine_hosts: str, machine_name: str) -> dict[str, str]:
    """Contents of /etc/hosts, /etc/hostname and /etc/resolv.conf of the pod."""
    host_network = bool(pod["spec"].get("hostNetwork"))
    name = machine_name if host_network else hostname_of(pod)
    return {
        "hosts": _hosts(pod, addresses, machine_hosts if host_network else "", name),
        "hostname": f"{name}\n",
        "resolv.conf": resolv_conf(pod, dns),
    }


def _hosts(pod: Obj, addresses: Sequence[str], machine_hosts: str, name: str) -> str:
    if machine_hosts:
        lines = ["# Corral-managed hosts file (host network).", machine_hosts.rstrip("\n")]
    else:
        lines = [
            "# Corral-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "fe00::0\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
        ]
        subdomain = pod["spec"].get("subdomain")
        qualified = f"{name}.{subdomain}.{pod['metadata'].get('namespace')}.svc.cluster.local\t" if subdomain else ""
        lines += [f"{address}\t{qualified}{name}" for address in addresses]
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) for alias in aliases]
    return "\n".join(lines) + "\n"


def resolv_conf(pod: Obj, dns: Dns) -> str:
    """By `dnsPolicy` and `dnsConfig`. Without a cluster DNS, ClusterFirst falls back to the machine's."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and pod["spec"].get("hostNetwork"):
        policy = "Default"
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy.startswith("ClusterFirst") and dns.cluster_servers:
        namespace, domain = pod["metadata"].get("namespace", "default"), dns.cluster_domain
        servers = list(dns.cluster_servers)
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *dns.machine_searches]
        options["ndots"] = "5"
    elif policy != "None":
        servers, searches = list(dns.machine_servers), list(dns.machine_searches)
    config = pod["spec"].get("dnsConfig") or {}
    servers = list(dict.fromkeys([*servers, *(config.get("nameservers") or ())]))[:_MAX_SERVERS]
    searches = list(dict.fromkeys([*searches, *(config.get("searches") or ())]))[:_MAX_SEARCHES]
    for option in config.get("options") or ():
        options[option["name"]] = option.get("value")
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append(
            "options " + " ".join(name if value is None else f"{name}:{value}" for name, value in options.items())
        )
    return "\n".join(lines) + "\n" if lines else ""

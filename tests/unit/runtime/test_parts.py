"""The small pure parts: references, users, seccomp, network, words of errors, process trees, the host image."""

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agent import preflight
from corral.agent.runtime import syscalls
from corral.agent.runtime.api import PortMapping, RuntimeFailure
from corral.agent.runtime.images import reference, skopeo
from corral.agent.runtime.images.host import HostImage, mounts
from corral.agent.runtime.oci import conmon, engine, exec, filters, machine, network, rootfs, seccomp, users
from corral.kinds.podnetwork import SPARE, candidates


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/a", "localhost/a:latest"),
        ("127.0.0.1:5000/a:b", "127.0.0.1:5000/a:b"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"a:tag@sha256:{'a' * 64}", f"docker.io/library/a@sha256:{'a' * 64}"),
    ],
)
def test_references_are_normalised(text: str, full: str) -> None:
    assert str(reference.parse(text)) == full
    assert str(reference.parse(full)) == full


@pytest.mark.parametrize("text", ["", "A", "a:", "a@sha256:12", "a b", "-a", "a//b", "a:b:c", "a@", "x/" + "a" * 300])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(RuntimeFailure, match="couldn't parse image name") as caught:
        reference.parse(text)
    assert caught.value.reason == "InvalidImageName"


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except RuntimeFailure:
        return
    assert reference.parse(str(parsed)) == parsed


def test_only_this_machines_registries_go_without_tls() -> None:
    loopback = {text: reference.parse(text).loopback for text in ("localhost/a", "127.0.0.1:5/a", "[::1]:5/a")}
    assert all(loopback.values())
    assert not any(reference.parse(text).loopback for text in ("a", "localhost.evil.com/a", "127x.com/a"))


PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:10:20:App:/app:/bin/sh\nbroken:line\n"
GROUP = "root:x:0:\nstaff:x:30:app,other\ntools:x:40:app\n"


def _read(path: str) -> str:
    return {"/etc/passwd": PASSWD, "/etc/group": GROUP}[path]


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", users.Identity(0, 0, (0,), "/root")),
        ("app", users.Identity(10, 20, (20, 30, 40), "/app")),
        ("10", users.Identity(10, 20, (20, 30, 40), "/app")),
        ("app:tools", users.Identity(10, 40, (40,), "/app")),
        ("99", users.Identity(99, 0, (0,), "/")),
        ("99:98", users.Identity(99, 98, (98,), "/")),
    ],
)
def test_users_are_looked_up_in_the_image(user: str, identity: users.Identity) -> None:
    assert users.resolve(user, (), _read) == identity


def test_supplemental_groups_are_added() -> None:
    assert users.resolve("app", (5, 20), _read).groups == (20, 5, 30, 40)


@pytest.mark.parametrize("user", ["nobody", "app:none"])
def test_unknown_names_are_refused(user: str) -> None:
    with pytest.raises(RuntimeFailure, match="unable to find"):
        users.resolve(user, (), _read)


def test_the_images_files_are_read_from_inside_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").symlink_to(secret)
    (root / "etc" / "group").symlink_to("../../secret")
    read = users.reader(str(root))
    assert (read("/etc/passwd"), read("/etc/group"), read("/etc/none")) == ("", "", "")


def test_running_as_root_is_refused_in_kubernetes_words() -> None:
    users.refuse_root("1000", "", "c")
    users.refuse_root("", "1000:0", "c")
    for wanted, image, words in (
        ("0", "", "runAsUser breaks non-root policy"),
        ("", "", "image will run as root"),
        ("", "app", "image has non-numeric user"),
    ):
        with pytest.raises(RuntimeFailure, match=words):
            users.refuse_root(wanted, image, "c")


PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": []},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arm_only"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
        },
    ],
}


def test_a_profile_is_resolved_for_what_the_container_may() -> None:
    made = seccomp.resolve(PROFILE, frozenset(), "x86_64")
    assert made["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert [(rule["names"], rule["action"]) for rule in made["syscalls"]] == [
        (["read"], "SCMP_ACT_ALLOW"),
        (["mount"], "SCMP_ACT_ERRNO"),
        (["personality"], "SCMP_ACT_ALLOW"),
    ]
    admin = seccomp.resolve(PROFILE, frozenset({"CAP_SYS_ADMIN"}), "aarch64")
    assert [rule["names"][0] for rule in admin["syscalls"]] == ["read", "mount", "arm_only", "personality"]


def test_a_narrowed_profile_makes_no_namespaces() -> None:
    rules: list[dict[str, Any]] = [
        {"names": ["read", "unshare", "clone", "clone3", "mount"], "action": "SCMP_ACT_ALLOW"}
    ]
    rules.append({"names": ["setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
    made = seccomp.narrowed({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}, "x86_64")["syscalls"]
    allowed = [(rule["names"], rule.get("args")) for rule in made if rule["action"] == "SCMP_ACT_ALLOW"]
    mask = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    assert allowed == [(["read"], None), (["clone"], [mask])]
    assert rules[0]["names"] == ["read", "unshare", "clone", "clone3", "mount"]


def test_only_the_machines_own_profile_is_narrowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seccomp.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": PROFILE["syscalls"]}))
    assert not any("unshare" in rule["names"] for rule in seccomp.load(path, ())["syscalls"])
    monkeypatch.setattr(seccomp, "DEFAULT_PROFILE", path)
    assert any("unshare" in rule["names"] for rule in seccomp.load(path, ("CAP_CHOWN",))["syscalls"])
    assert not any("unshare" in rule["names"] for rule in seccomp.load(path, ("CAP_SYS_ADMIN",))["syscalls"])


def test_profiles_are_compiled_once(tmp_path: Path) -> None:
    made = seccomp.resolve(PROFILE, frozenset(), "x86_64")
    program = filters.compiled(made)
    assert program is None or program == filters.compiled(json.loads(json.dumps(made)))
    assert filters.compiled({"defaultAction": "SCMP_ACT_UNKNOWN"}) is None


TRIES = """\
Id 358259664:
     |-- 10.94.92.0
        /24 universe UNICAST
Main:
  +-- 0.0.0.0/0 3 0 6
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 6
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
"""
ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_routes_are_read() -> None:
    assert network.parse_routes(ROUTES) == [
        ("eth0", ipaddress.IPv4Network("0.0.0.0/0")),
        ("eth0", ipaddress.IPv4Network("192.0.2.0/24")),
    ]


def test_routes_of_other_tables_count() -> None:
    assert network.parse_destinations(TRIES) == [
        ipaddress.IPv4Network("10.94.92.0/24"),
        ipaddress.IPv4Network("192.0.2.0/24"),
    ]


def test_cells_get_subnets_that_nobody_uses() -> None:
    everything = list(candidates("a"))
    assert len(set(everything)) == 2048 + 1024
    assert everything[0] != next(candidates("b"))
    assert network.first_free("a", everything[:2]) == str(everything[2])
    office = ipaddress.IPv4Network("10.0.0.0/8")
    assert ipaddress.IPv4Network(network.first_free("a", [office])).subnet_of(SPARE)
    with pytest.raises(RuntimeFailure, match="cannot choose a pod network"):
        network.first_free("a", [office, ipaddress.IPv4Network("172.16.0.0/12")])


def test_addresses_that_no_pod_has_are_given_back(tmp_path: Path) -> None:
    leases = tmp_path / "corral-1"
    leases.mkdir()
    # As host-local writes them; a power cut left the third one empty.
    files = {
        "10.88.7.2": "a-0\r\neth0",
        "10.88.7.3": "b-0\r\neth0",
        "10.88.7.4": "",
        "last_reserved_ip.0": "",
        "lock": "",
    }
    for name, text in files.items():
        (leases / name).write_bytes(text.encode())
    made = network.Network(network.NetworkConfig("corral-1", "10.88.7.0/24"), tmp_path)
    made.keep_leases(["a-0", "_c"])
    assert sorted(path.name for path in leases.iterdir()) == ["10.88.7.2", "last_reserved_ip.0", "lock"]
    network.Network(network.NetworkConfig("corral-2", "10.88.7.0/24"), tmp_path).keep_leases([])


def test_plugins_get_what_they_need() -> None:
    config = network.NetworkConfig("corral-1", "10.88.7.0/24", 1400)
    assert config.gateway == "10.88.7.1"
    bridge = network.bridge_configuration(config, Path("/leases"))
    assert (bridge["bridge"], bridge["mtu"]) == ("corral-1", 1400)
    ports = network.portmap_configuration(config, [PortMapping(80, 8080, "UDP", "127.0.0.1"), PortMapping(1, 2)], {})
    assert ports["runtimeConfig"] == {
        "portMappings": [
            {"hostPort": 80, "containerPort": 8080, "protocol": "udp", "hostIP": "127.0.0.1"},
            {"hostPort": 1, "containerPort": 2, "protocol": "tcp"},
        ]
    }
    assert "10.88.7.0/24" in network.masquerade_rules(config)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "executable file `nope` not found in $PATH: No such file or directory",
            '"nope": executable file not found in $PATH',
        ),
        ("executable file `/no` not found: No such file or directory", '"/no": stat /no: no such file or directory'),
        ("open executable: Permission denied", '"program": permission denied'),
        (
            'unable to start container process: exec: "nope": executable file not found in $PATH: unknown',
            '"nope": executable file not found in $PATH',
        ),
    ],
)
def test_complaints_are_put_in_known_words(words: str, said: str) -> None:
    assert conmon.explain(words, "program") == f"exec: {said}"


def test_other_complaints_stay_as_they_are() -> None:
    assert conmon.explain("mount `x`: Invalid argument", "p") == "mount `x`: Invalid argument"


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert conmon.last_error(log) == ""
    log.write_text(
        '{"level":"warning","msg":"w"}\n{"level":"error","msg":"e"}\nnot json\n{"level":"warning","msg":"x"}\n'
    )
    assert conmon.last_error(log) == "e"


def test_descendants_are_found_however_they_are_listed() -> None:
    parents = {10: 1, 11: 10, 12: 11, 13: 12, 20: 1, 21: 20}
    assert exec.tree(10, parents) == {10, 11, 12, 13}
    assert exec.tree(99, parents) == {99}


def test_an_exec_runs_as_the_container_does() -> None:
    own = {"args": ["x"], "env": ["A=1"], "user": {"uid": 5}, "noNewPrivileges": True, "terminal": False}
    made = exec.process_spec(own, ["sh"], tty=True)
    assert made == {**own, "args": ["sh"], "env": ["A=1", "TERM=xterm"], "terminal": True}


def test_crun_is_wrapped_only_where_it_has_to_be() -> None:
    assert engine.wrapper("crun", "v2") == engine.wrapper("runc", "hybrid") == ()
    assert engine.wrapper("crun", "hybrid")[0].endswith("unshare")


def test_overlay_options_escape_separators() -> None:
    assert rootfs.options(["/a:b", "/c,d"], "/u", "/w") == "lowerdir=/a\\:b:/c\\,d,upperdir=/u,workdir=/w"


def test_inotify_events_are_read() -> None:
    event = (1).to_bytes(4, "little") + bytes(8) + (16).to_bytes(4, "little") + b"name".ljust(16, b"\0")
    overflow = (1).to_bytes(4, "little") + bytes(12)
    assert syscalls.inotify_names(event + overflow) == ["name", ""]


def test_powers_of_the_agent() -> None:
    held = machine.capabilities("Name:\tx\nCapEff:\t0000000000000003\n")
    assert held == {"CAP_CHOWN", "CAP_DAC_OVERRIDE"}
    assert machine.lowest_oom_score_adj(held, 5) == 5
    assert machine.lowest_oom_score_adj(frozenset({"CAP_SYS_RESOURCE"}), 5) == -1000


def test_the_host_image_holds_nothing_secret(tmp_path: Path) -> None:
    etc = tmp_path / "machine" / "etc"
    for path, text in (
        ("shadow", "x"),
        ("ssl/private/key.pem", "x"),
        ("ssl/certs/ca.pem", "c"),
        ("ssl/certs/a.key", "x"),
    ):
        (etc / path).parent.mkdir(parents=True, exist_ok=True)
        (etc / path).write_text(text)
    (etc / "mime.types").write_text("readable")
    (etc / "ld.so.conf").write_text("private")
    (etc / "ld.so.conf").chmod(0o600)
    (tmp_path / "machine" / "bin").symlink_to("usr/bin")
    image = HostImage(tmp_path / "trees", tmp_path / "machine")
    tree = Path(image.layer())
    assert (tree / "bin").readlink() == Path("usr/bin")
    assert (tree / "etc/ssl/certs/ca.pem").read_text() == "c"
    assert not any(
        (tree / "etc" / name).exists() for name in ("shadow", "ssl/private", "ssl/certs/a.key", "ld.so.conf")
    )
    assert (tree / "tmp").stat().st_mode & 0o7777 == 0o1777
    image.refresh()
    assert image.layer() == str(tree)
    (etc / "mime.types").write_text("changed")
    image.refresh()
    assert image.layer() != str(tree)
    image.remove_unused({str(tree)})
    assert tree.exists()
    image.remove_unused(set())
    assert not tree.exists()


def test_what_is_mounted_below_usr_is_bound_by_itself() -> None:
    lines = ["1 0 8:1 / / rw - ext4 d rw", "2 1 8:2 / /usr/local rw - ext4 d rw", "3 1 0:5 / /usrx rw - tmpfs t rw"]
    found = mounts("\n".join(lines))
    assert [(mount.target, mount.read_only) for mount in found] == [
        ("/usr", True),
        ("/usr/local", True),
    ]


def test_registries_are_quoted_without_decoration() -> None:
    line = 'time="2026" level=fatal msg="initializing source: reading manifest 1 in \\"x\\": manifest unknown"\n'
    assert skopeo.words(line) == 'initializing source: reading manifest 1 in "x": manifest unknown'
    assert skopeo.words("") == "skopeo ended without a word"


def test_preflight_names_remedies() -> None:
    assert not preflight.kernel("5.4.0-1-amd64").ok
    assert preflight.kernel("6.1.0").ok
    assert preflight.overlay("nodev\tproc\n\toverlay\n").ok
    assert preflight.overlay("\text4\n").remedy == "modprobe overlay"
    missing = preflight.program("no-such-program", "package")
    assert (missing.ok, missing.remedy) == (False, "apt-get install -y --no-install-recommends package")
    assert not preflight.root(1000).ok


def test_forwarding_is_switched_on(tmp_path: Path) -> None:
    switch = tmp_path / "ip_forward"
    switch.write_text("0")
    assert preflight.forwarding(switch).ok
    assert switch.read_text() == "1"

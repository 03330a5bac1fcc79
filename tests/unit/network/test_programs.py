"""What is read from `ip` and what `ip` and `nft` are told."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from corral.network import reading
from corral.network.plan import Direct, Foreign, Plan, Tunnelled
from corral.network.programs import Names, filter_rules, route_line

NAMES = Names("corral-0a1b2c3d", 1400)
NEAR = Direct(IPv4Network("10.88.2.0/24"), IPv4Address("192.0.2.2"), "eth0")
FAR = Tunnelled(IPv4Network("10.88.9.0/24"), IPv4Address("198.51.100.3"))

# Of iproute2 6.1; an encapsulated route has two fields `dst`.
MARKED = f"""[{{"dst":"10.88.2.0/24","gateway":"192.0.2.2","dev":"eth0","table":"{NAMES.routes}","flags":[]}},
{{"type":"unicast","dst":"10.88.9.0/24","encap":"ip","id":1,"src":"0.0.0.0","dst":"198.51.100.3","ttl":0,"tos":0,
 "dev":"cvx-1","table":"{NAMES.routes}","scope":"link","flags":[]}},
{{"dst":"10.88.7.0/24","gateway":"192.0.2.7","dev":"eth0","table":"7","flags":[]}},
{{"dst":"10.88.8.0/24","encap":"ip","id":1,"src":"0.0.0.0","dst":"198.51.100.8","dev":"cvx-2","table":"8"}},
{{"dst":"10.88.3.0/24","gateway":"192.0.2.3","dev":"eth0","flags":[]}}]"""
MAIN = """[{"dst":"default","gateway":"192.0.2.254","dev":"eth0","flags":[]},
{"dst":"192.0.2.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"192.0.2.1","flags":[]},
{"type":"blackhole","dst":"203.0.113.0/24","flags":[]},
{"dst":"10.0.0.7","gateway":"192.0.2.9","dev":"eth0","flags":["linkdown"]}]"""
ADDRESSES = """[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]},{},
{"ifname":"eth0","addr_info":[{"family":"inet","local":"192.0.2.1","prefixlen":24}]}]"""


def test_routes_are_read_as_they_were_written() -> None:
    assert reading.own_routes(MARKED, str(NAMES.routes)) == {NEAR, FAR}
    assert reading.own_routes("", str(NAMES.routes)) == frozenset()
    assert reading.own_routes(MARKED, "9") == frozenset()
    table = NAMES.routes
    assert route_line(NAMES, NEAR) == f"10.88.2.0/24 via 192.0.2.2 dev eth0 proto 67 table {table}"
    far = f"10.88.9.0/24 encap ip id 1 dst 198.51.100.3 dev {NAMES.device} proto 67 table {table}"
    assert route_line(NAMES, FAR) == far


def test_a_machines_own_network_is_read() -> None:
    assert reading.foreign_routes(MAIN) == [
        Foreign(IPv4Network("192.0.2.0/24"), "eth0", connected=True),
        Foreign(IPv4Network("10.0.0.7/32"), "eth0", connected=False),
    ]
    assert reading.addresses(ADDRESSES) == [
        ("lo", IPv4Interface("127.0.0.1/8")),
        ("eth0", IPv4Interface("192.0.2.1/24")),
    ]
    assert reading.rules('[{"priority":0,"src":"all","table":"local"},{"priority":30000,"table":"77"}]')[1] == (
        30000,
        "77",
    )


def test_other_cells_routes_are_told_apart_by_table() -> None:
    assert reading.others_routes(MARKED, str(NAMES.routes)) == {
        "7": [Foreign(IPv4Network("10.88.7.0/24"), "eth0 in table 7", connected=False)],
        "8": [Foreign(IPv4Network("10.88.8.0/24"), "cvx-2 in table 8", connected=False)],
    }
    assert reading.others_routes("", str(NAMES.routes)) == {}


def test_names_fit_the_kernel_and_differ_by_cell() -> None:
    assert len(NAMES.device) <= 15
    assert 255 < NAMES.routes < 1 << 32
    other = Names("corral-ffffffff")
    assert (other.device, other.routes) != (NAMES.device, NAMES.routes)


def test_only_members_may_send_into_a_tunnel() -> None:
    pods = (IPv4Network("10.88.1.0/24"), IPv4Network("10.88.9.0/24"))
    text = filter_rules(NAMES, Plan(frozenset({FAR}), pods, (IPv4Address("198.51.100.3"),)))
    assert "add element ip corral-0a1b2c3d pods { 10.88.1.0/24, 10.88.9.0/24 }" in text
    assert "udp dport 4790 ip saddr != @machines drop" in text
    alone = filter_rules(NAMES, Plan(frozenset(), pods[:1], ()))
    assert "drop" not in alone
    assert "element ip corral-0a1b2c3d machines" not in alone

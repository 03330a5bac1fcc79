"""Machines and workloads from CSV: what spreadsheets write is read, nonsense is refused where it stands."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.base.errors import CorralError
from corral.kinds.podspec import pod_requests
from corral.kinds.taints import Taint
from corral.kinds.types import Key
from corral.scheduler.machine import read_allocatable, read_machine
from corral.scheduler.simulator import csvtable, inventory
from corral.scheduler.simulator.scenario import Scenario, Span, workload


def machines(text: str) -> list[tuple[str, dict[str, int]]]:
    found = inventory.machines(text, "m.csv").machines
    return [(node["metadata"]["name"], read_allocatable(node)) for node in found]


def requests(text: str) -> list[dict[str, int]]:
    return [pod_requests(pod) for pod in inventory.workloads(text, "w.csv").pods]


def test_a_row_stands_for_as_many_machines_as_it_counts() -> None:
    found = machines("name,count,cpu,memory\nbig,2,4,8Gi\nsmall,,500m,1Gi\n")
    eight = {"cpu": 4000, "memory": 8 << 30, "pods": 110}
    assert found == [("big-0", eight), ("big-1", eight), ("small", {"cpu": 500, "memory": 1 << 30, "pods": 110})]


def test_labels_taints_zone_model_and_resources_of_any_name() -> None:
    header = "name,cpu,memory,zone,labels,taints,gpu,gpu-model,example.com/fpga,ephemeral-storage\n"
    row = 'a,1,1Gi,z1,"disk=ssd, tier=gold",dedicated=ml:NoSchedule,8,A100,2,100Gi\n'
    (node,) = inventory.machines(header + row, "m.csv").machines
    machine = read_machine(node)
    assert machine.labels == {
        "kubernetes.io/hostname": "a",
        "topology.kubernetes.io/zone": "z1",
        "disk": "ssd",
        "tier": "gold",
        "nvidia.com/gpu.product": "A100",
    }
    assert machine.taints == (Taint("dedicated", "ml", "NoSchedule"),)
    amounts = read_allocatable(node)
    assert (amounts["nvidia.com/gpu"], amounts["example.com/fpga"]) == (8, 2)
    assert amounts["ephemeral-storage"] == 100 << 30


def test_a_workload_has_priority_selector_tolerations_and_times() -> None:
    header = "name,namespace,count,cpu,memory,priority,selector,tolerations,start,duration\n"
    rows = "late,ml,1,1,1Gi,corral-batch,disk=ssd,dedicated=ml:NoSchedule,60,30\nearly,,2,1,1Gi,production,,spot,5,\n"
    scenario = inventory.workloads(header + rows, "w.csv")
    assert [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in scenario.pods] == [
        *(("default", "early-0"), ("default", "early-1")),
        ("ml", "late-0"),
    ]
    early, late = scenario.pods[0], scenario.pods[2]
    assert (early["spec"]["priority"], late["spec"]["priority"]) == (200_000_000, 100_000_000)
    assert late["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert late["spec"]["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}
    ]
    assert early["spec"]["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert scenario.spans[Key("ml", "late-0")] == Span(60.0, 30.0)
    assert scenario.spans[Key("default", "early-1")] == Span(5.0, None)
    assert workload(early) == "early"


def test_columns_of_the_public_trace() -> None:
    (node,) = inventory.machines("sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\n", "m.csv").machines
    amounts = {"cpu": 64000, "memory": 256 << 30, "nvidia.com/gpu": 2, "corral.dev/gpu-milli": 2000, "pods": 110}
    assert read_allocatable(node) == amounts
    header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time\n"
    scenario = inventory.workloads(header + "p0,12000,16384,1,1000,V100M16|V100M32,LS,Running,10,70\n", "w.csv")
    (pod,) = scenario.pods
    assert pod_requests(pod) == {"cpu": 12000, "memory": 16 << 30, "nvidia.com/gpu": 1}
    assert scenario.spans[Key("default", "p0")] == Span(10.0, 60.0)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffname,cpu,memory\na,1.5,2Gi\n".encode(),
        b"name;cpu;memory\r\na;1,5;2Gi\r\n",
        b"sep=;\r\nName;CPU;Memory\r\na;1,5;2Gi\r\n",
        b"name\tcpu\tmemory\na\t1500m\t2048Mi\n",
        b'\n"name","cpu","memory"\n\n "a" , 1.5 , 2Gi ,,\n,,\n'.replace(b' "a" ', b"a"),
        "name,cpu,memory\na,1.5,2Gi\n".encode("utf-16"),
    ],
)
def test_what_spreadsheets_write_is_read(text: bytes) -> None:
    assert machines(csvtable.decode(text, "m.csv")) == [("a", {"cpu": 1500, "memory": 2 << 30, "pods": 110})]


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        ("", "m.csv: it is empty", "begin it with a header"),
        ("\n \n", "m.csv: it is empty", "begin it with a header"),
        ("name,cpu,memory\n", "a header but no rows", "one row for each"),
        ("name,cpu,memroy\na,1,1Gi\n", "line 1: there is no column 'memroy'", "did you mean 'memory'?"),
        ("name,cpu,,memory\na,1,,1Gi\n", "line 1: a column has no name", "columns are name, count"),
        ("name,cpu,CPU\na,1,1\n", "the column 'CPU' is there twice", "keep one"),
        ("name,cpu,memory\na,1,1Gi,x\n", "line 2: 4 cells, but the header has 3", "in quotes"),
        ("name,cpu,memory\na,,1Gi\n", "line 2, column 'cpu': a machine needs it", "such as"),
        ("name,cpu,memory\n\na,four,1Gi\n", "line 3, column 'cpu': 'four' is not an amount of cpu", "4 or 500m"),
        ("name,cpu,memory\na,nan,1Gi\n", "'nan' is not an amount", "4 or 500m"),
        ("name,cpu,memory\na,-1,1Gi\n", "-1 is negative", "4 or 500m"),
        ("name,cpu,memory\na,1e30,1Gi\n", "more than any machine has", "4 or 500m"),
        ("name,cpu,memory\na,4,64\n", "'64' is 64 bytes", "64Gi"),
        ("name,count,cpu,memory\na,2.5,4,1Gi\n", "column 'count': '2.5' is not a whole number", "from 0 to"),
        ("name,count,cpu,memory\na,99999999999,4,1Gi\n", "column 'count': 99999999999 is out of range", "from 0 to"),
        ("name,cpu,memory\na,4,1Gi\na,4,1Gi\n", "line 3, column 'name': 'a' is the name of line 2", "of its own"),
        ("name,cpu,memory,labels\na,4,1Gi,ssd\n", "'ssd' is not key=value", "key=value"),
        ("name,cpu,memory,taints\na,4,1Gi,a=b:Never\n", "'a=b:Never' is not a taint", "NoSchedule"),
        ('name,cpu,memory\n"a,4,1Gi\n', "line 2: unexpected end of data", "quotes"),
    ],
)
def test_errors_say_where_why_and_what_helps(text: str, says: str, remedy: str) -> None:
    with pytest.raises(CorralError) as caught:
        inventory.machines(text, "m.csv")
    assert says in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        ("priority", "urgent", "there is no priority 'urgent'"),
        ("priority", "99999999999", "out of range"),
        ("tolerations", "a=b:Whenever", "'Whenever' is no effect"),
        ("duration", "soon", "not a number of seconds"),
        ("duration", "-1", "not a number of seconds"),
        ("start", "inf", "not a number of seconds"),
        ("gpu", "x", "not a whole number"),
    ],
)
def test_wrong_cells_of_workloads(column: str, cell: str, says: str) -> None:
    with pytest.raises(CorralError, match=f"w.csv, line 2, column '{column}': .*{says}"):
        inventory.workloads(f"name,cpu,{column}\na,1,{cell}\n", "w.csv")


def test_a_file_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_MOST", 10)
    text = "name,count,cpu,memory\na,6,4,1Gi\nb,6,4,1Gi\n"
    with pytest.raises(CorralError, match="line 3, column 'count': the file comes to more than 10 machines"):
        inventory.machines(text, "m.csv")


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(CorralError, match="line 2: byte 0xfc is not UTF-8"):
        csvtable.decode("name\nmünchen\n".encode("latin-1"), "m.csv")
    with pytest.raises(CorralError, match="null characters"):
        csvtable.decode(b"PK\x03\x04\x00\x00", "m.xlsx")


def refusal_of(read: Callable[[str, str], Scenario], text: str) -> CorralError | None:
    """What speaks against `text`, if something does; nothing but a CorralError may."""
    try:
        found = read(text, "x.csv")
    except CorralError as error:
        return error
    for pod in found.pods[:3]:
        assert all(0 <= amount < 2**63 for amount in pod_requests(pod).values())
    return None


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    for read in (inventory.machines, inventory.workloads):
        refusal = refusal_of(read, text)
        assert refusal is None or (refusal.message.startswith("x.csv") and refusal.remedy)


_CELL = st.sampled_from(["", "1", "-3", "1e400", "0.5", "4Gi", "a=b", "x", "99999999999999999999999", "٣", "1,5", "∞"])


@settings(max_examples=300)
@given(st.lists(_CELL, min_size=8, max_size=8), st.sampled_from(",;\t"))
def test_any_cells_are_read_or_refused_by_line_and_column(cells: list[str], delimiter: str) -> None:
    header = delimiter.join(["count", "cpu", "memory", "gpu", "priority", "start", "duration", "selector"])
    row = delimiter.join(f'"{cell}"' for cell in cells)
    refusal = refusal_of(inventory.workloads, f"{header}\n{row}\n")
    assert refusal is None or "x.csv, line 2, column" in refusal.message or not any(cells)

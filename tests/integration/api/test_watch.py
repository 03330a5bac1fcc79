"""Watches over plain HTTP: what comes, in which order, and how they end."""

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest


def path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps" + (f"/{name}" if name else "")


class Stream:
    """An open watch; events are read as they are needed."""

    def __init__(self, running: Any, target: str, accept: str = "application/json") -> None:
        context = ssl.create_default_context(cafile=str(running.ca))
        context.load_cert_chain(running.cert, running.key)
        self._connection = http.client.HTTPSConnection("127.0.0.1", running.port, context=context, timeout=20)
        self._connection.request("GET", target, headers={"Accept": accept})
        self.response = self._connection.getresponse()

    def __next__(self) -> Any:
        line = self.response.readline()
        if not line:
            raise StopIteration
        return json.loads(line)

    def __iter__(self) -> Iterator[Any]:
        return self

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def kinds_of(events: list[Any]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def test_from_a_revision(api: Any, http_as: Any, namespace: str) -> None:
    start = http_as("GET", path(namespace)).json["metadata"]["resourceVersion"]
    http_as("POST", path(namespace), {"metadata": {"name": "a"}})
    stream = Stream(api, f"{path(namespace)}?watch=1&resourceVersion={start}")
    first = next(stream)
    made = http_as("GET", path(namespace, "a")).json
    assert first == {"type": "ADDED", "object": made}
    http_as("PUT", path(namespace, "a"), {**made, "data": {"x": "y"}})
    http_as("DELETE", path(namespace, "a"))
    events = [next(stream), next(stream)]
    assert kinds_of(events) == [("MODIFIED", "a"), ("DELETED", "a")]
    assert int(events[1]["object"]["metadata"]["resourceVersion"]) > int(
        events[0]["object"]["metadata"]["resourceVersion"]
    )
    stream.close()


@pytest.mark.parametrize("revision", ["", "&resourceVersion=0"])
def test_from_nowhere_begins_with_what_there_is(api: Any, http_as: Any, namespace: str, revision: str) -> None:
    http_as("POST", path(namespace), {"metadata": {"name": "a"}})
    stream = Stream(api, f"{path(namespace)}?watch=true{revision}")
    assert kinds_of([next(stream)]) == [("ADDED", "a")]
    http_as("POST", path(namespace), {"metadata": {"name": "b"}})
    assert kinds_of([next(stream)]) == [("ADDED", "b")]
    stream.close()


def test_initial_events_end_with_a_bookmark(api: Any, http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), {"metadata": {"name": "a"}})
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    stream = Stream(api, f"{path(namespace)}?{query}")
    events = [next(stream), next(stream)]
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    stream.close()


def test_a_timeout_ends_with_a_bookmark(api: Any, namespace: str) -> None:
    stream = Stream(api, f"{path(namespace)}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true")
    assert [event["type"] for event in stream] == ["BOOKMARK"]
    stream.close()


def test_objects_enter_and_leave_a_selection(api: Any, http_as: Any, namespace: str) -> None:
    stream = Stream(api, f"{path(namespace)}?watch=1&labelSelector=on%3Dyes")
    merge = {"Content-Type": "application/merge-patch+json"}
    http_as("POST", path(namespace), {"metadata": {"name": "a"}})
    http_as("PATCH", path(namespace, "a"), {"metadata": {"labels": {"on": "yes"}}}, headers=merge)
    http_as("PATCH", path(namespace, "a"), {"data": {"x": "y"}}, headers=merge)
    left = http_as("PATCH", path(namespace, "a"), {"metadata": {"labels": {"on": "no"}}}, headers=merge).json
    events = [next(stream) for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[2]["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
    assert events[2]["object"]["metadata"]["labels"] == {"on": "yes"}
    stream.close()


def test_tables(api: Any, http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), {"metadata": {"name": "a"}})
    stream = Stream(api, f"{path(namespace)}?watch=1", "application/json;as=Table;v=v1;g=meta.k8s.io")
    first = next(stream)["object"]
    http_as("POST", path(namespace), {"metadata": {"name": "b"}})
    second = next(stream)["object"]
    assert first["columnDefinitions"]
    assert [first["rows"][0]["cells"][0], second["rows"][0]["cells"][0]] == ["a", "b"]
    assert not second["columnDefinitions"]
    stream.close()


def test_a_compacted_revision_is_gone(api: Any, http_as: Any, namespace: str) -> None:
    import asyncio

    http_as("POST", path(namespace), {"metadata": {"name": "a"}})
    store = api.server.core.store
    asyncio.run_coroutine_threadsafe(store.compact(store.revision), api.loop).result(10)
    for _ in range(2):
        http_as("POST", path(namespace), {"metadata": {"generateName": "b-"}})
    refused = http_as("GET", f"{path(namespace)}?watch=1&resourceVersion=1")
    assert (refused.status, refused.json["reason"]) == (410, "Expired")


def test_a_watch_over_the_full_lane(api: Any, http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), {"metadata": {"name": "a"}})
    line = f"GET {path(namespace)}?watch=1&timeoutSeconds=1 HTTP/1.1"
    head = f"{line}\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n"
    answer = http_as.raw(head.encode())
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'{"type":"ADDED"' in answer

"""What people and broken programs send: each gets a Status that names the mistake, and the server goes on."""

from typing import Any

import pytest

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def post_head(length: int) -> bytes:
    head = (
        f"POST {CONFIG_MAPS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode()


def make_pod(**container: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", **container}]}}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "line 1 column"),
        (b"", 400, "empty"),
        (b"[]", 400, "array"),
        (b'{"metadata": 3}', 400, "metadata"),
        (b'{"metadata": {"name": 3}}', 400, "metadata.name"),
        (b'{"metadata": {"name": "a", "labels": {"x": 1}}}', 400, "metadata.labels.x"),
        (b'{"metadata": {"name": "a"}, "kind": "Pod"}', 400, "kind"),
        (b'{"metadata": {"name": "a"}, "apiVersion": "v2"}', 400, "API version"),
        (b'{"metadata": {"name": "a", "namespace": "b"}}', 400, "namespace"),
        (b'{"metadata": {"name": "a", "resourceVersion": "5"}}', 400, "resourceVersion"),
        (b'{"metadata": {}}', 422, "name or generateName is required"),
        (b'{"metadata": {"name": "No_Good"}}', 422, "metadata.name"),
        (b'{"metadata": {"name": "a"}, "data": {"k": 3}}', (400, 422), "data"),
        (b'{"metadata": {"name": "a"}, "data": []}', (400, 422), "data"),
        (b"[" * 100_000, 400, "depth limit"),
        (b'{"metadata":{"name":"a"},"x":' + b"[" * 900 + b"]" * 900 + b"}", (201, 400), ""),
    ],
)
def test_bodies(http_as: Any, body: bytes, status: Any, words: str) -> None:
    answer = http_as("POST", CONFIG_MAPS, body)
    assert answer.status in (status if isinstance(status, tuple) else (status,)), answer.body
    assert words in answer.body.decode()
    http_as("DELETE", f"{CONFIG_MAPS}/a")


def test_unknown_and_duplicate_fields(http_as: Any) -> None:
    body = b'{"metadata":{"name":"u"},"data":{"a":"1","a":"2"},"foo":1}'
    strict = http_as("POST", CONFIG_MAPS + "?fieldValidation=Strict", body)
    assert strict.status == 400
    assert 'strict decoding error: unknown field "foo"' in strict.json["message"]
    assert 'duplicate field "' in strict.json["message"]
    warned = http_as("POST", CONFIG_MAPS + "?fieldValidation=Warn&dryRun=All", body)
    assert warned.status == 201
    assert "unknown field" in warned.headers["Warning"]
    ignored = http_as("POST", CONFIG_MAPS + "?fieldValidation=Ignore&dryRun=All", body)
    assert "Warning" not in ignored.headers
    assert http_as("POST", CONFIG_MAPS + "?fieldValidation=Perhaps", body).status == 422


@pytest.mark.parametrize(
    "pod",
    [
        make_pod(ports=[{"containerPort": 99999}]),
        make_pod(imagePullPolicy="Sometimes"),
        make_pod(name="Not Good"),
        {"metadata": {"name": "p"}, "spec": {"containers": []}},
        {"metadata": {"name": "p"}},
    ],
)
def test_impossible_pods_name_their_fields(http_as: Any, pod: Any) -> None:
    answer = http_as("POST", PODS, pod)
    assert answer.status == 422, answer.body
    assert all(cause["field"].startswith("spec") for cause in answer.json["details"]["causes"])


def test_impossible_quantities_are_refused(http_as: Any) -> None:
    answer = http_as("POST", PODS, make_pod(resources={"requests": {"cpu": "much"}}))
    assert answer.status in (400, 422), answer.body
    assert "quantit" in answer.json["message"]


@pytest.mark.parametrize("spec", [3, "x", [], {"containers": "x"}, {"containers": [3]}, {"containers": {"a": 1}}])
def test_wrong_types_are_refused(http_as: Any, spec: Any) -> None:
    answer = http_as("POST", PODS, {"metadata": {"name": "p"}, "spec": spec})
    assert answer.status in (400, 422), answer.body


def test_large_bodies(http_as: Any) -> None:
    body = b'{"metadata":{"name":"big"},"data":{"x":"' + b"y" * (5 << 20) + b'"}}'
    answer = http_as.raw(post_head(len(body)))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"RequestEntityTooLarge" in answer


def test_media_types(http_as: Any) -> None:
    headers = {"Content-Type": "text/csv"}
    assert http_as("POST", CONFIG_MAPS, b"a,b", headers=headers).json["reason"] == "UnsupportedMediaType"
    assert http_as("PATCH", CONFIG_MAPS + "/a", b"{}", headers={"Content-Type": "application/json"}).status == 415
    zipped = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert http_as("POST", CONFIG_MAPS, b"{}", headers=zipped).status == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/apis/no.such/v1/things", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("GET", "/api/v1/namespaces/default/pods/p/nothing", 404),
        ("GET", "/api/v1//pods", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/none", 404),
        ("PUT", CONFIG_MAPS, 405),
        ("POST", CONFIG_MAPS + "/a", 405),
        ("OPTIONS", CONFIG_MAPS, 405),
        ("DELETE", "/version", 405),
        ("GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews", 405),
        ("HEAD", "/api/v1/namespaces/default", 200),
        ("GET", CONFIG_MAPS + "?limit=many", 400),
        ("GET", CONFIG_MAPS + "?resourceVersion=abc", 400),
        ("GET", CONFIG_MAPS + "?resourceVersionMatch=Exact", 422),
        ("GET", CONFIG_MAPS + "?labelSelector=%3D%3D", 400),
        ("GET", CONFIG_MAPS + "?watch=1&sendInitialEvents=true", 422),
        ("GET", CONFIG_MAPS + "/" + "a" * 5000, 404),
    ],
)
def test_paths_and_methods(http_as: Any, method: str, path: str, status: int) -> None:
    answer = http_as(method, path)
    assert answer.status == status, answer.body
    if method != "HEAD":
        assert answer.json["kind"] == "Status"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"POST /version HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n",
    ],
)
def test_broken_http_ends_the_connection(http_as: Any, data: bytes) -> None:
    answer = http_as.raw(data)
    assert answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.0 4"), answer[:200]
    assert http_as("GET", "/livez").body == b"ok"


def test_half_a_request_is_nothing(http_as: Any) -> None:
    http_as.raw(post_head(100) + b'{"metadata":{"name":"half"}', end=True)
    assert http_as("GET", f"{CONFIG_MAPS}/half").status == 404


def test_requests_on_one_connection_are_answered_in_order(http_as: Any) -> None:
    body = b'{"metadata":{"name":"piped"}}'
    get = f"GET {CONFIG_MAPS}/piped HTTP/1.1\r\nHost: a\r\n\r\n"
    last = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = http_as.raw(post_head(len(body)) + body + get.encode() + last.encode())
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"201", b"200", b"200"]
    assert answer.endswith(b"ok")
    http_as("DELETE", f"{CONFIG_MAPS}/piped")


def test_chunked_bodies(http_as: Any) -> None:
    body = b'{"metadata":{"name":"chunked"}}'
    head = f"POST {CONFIG_MAPS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    data = head.encode() + b"Connection: close\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert http_as.raw(data).startswith(b"HTTP/1.1 201")
    http_as("DELETE", f"{CONFIG_MAPS}/chunked")


def test_strangers_see_health_and_version_only(http_as: Any) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert http_as("GET", path, token="").status == 200
    for path in (CONFIG_MAPS, "/api", "/apis", "/metrics", "/openapi/v2"):
        assert http_as("GET", path, token="").status == 403
    assert http_as("GET", "/version", token="nonsense").status == 401
    refused = http_as("GET", CONFIG_MAPS, token="").json
    assert 'User "system:anonymous" cannot list resource "configmaps"' in refused["message"]


CHANGES_OF_KIND = [
    ("application/json-patch+json", [{"op": "replace", "path": "/kind", "value": "Pod"}]),
    ("application/merge-patch+json", {"kind": "Pod"}),
    ("application/merge-patch+json", {"apiVersion": "apps/v1"}),
    ("application/strategic-merge-patch+json", {"kind": "Pod"}),
]


@pytest.mark.parametrize(("media", "change"), CHANGES_OF_KIND)
def test_no_patch_makes_another_kind_of_an_object(http_as: Any, namespace: str, media: str, change: Any) -> None:
    collection = f"/api/v1/namespaces/{namespace}/configmaps"
    assert http_as("POST", collection, {"metadata": {"name": "c"}}).status == 201
    answer = http_as("PATCH", f"{collection}/c", change, headers={"Content-Type": media})
    assert answer.status == 400, answer.body
    assert "does not match the expected" in answer.json["message"]
    assert http_as("GET", f"{collection}/c").json["kind"] == "ConfigMap"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"preconditions": 3}, "preconditions"),
        ({"preconditions": {"uid": 3}}, "preconditions"),
        ({"dryRun": "All"}, "dryRun"),
        ({"gracePeriodSeconds": "x"}, "gracePeriodSeconds"),
        ({"kind": "Pod"}, "DeleteOptions"),
    ],
)
def test_delete_options_of_the_wrong_type(http_as: Any, namespace: str, body: Any, words: str) -> None:
    collection = f"/api/v1/namespaces/{namespace}/configmaps"
    http_as("POST", collection, {"metadata": {"name": "c"}})
    answer = http_as("DELETE", f"{collection}/c", body)
    assert answer.status == 400, answer.body
    assert words in answer.json["message"]
    assert http_as("GET", f"{collection}/c").status == 200


@pytest.mark.parametrize(
    ("plural", "spec"),
    [
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", {"resourceAttributes": []}),
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", {"resourceAttributes": {"verb": 3}}),
        ("authorization.k8s.io/v1/subjectaccessreviews", {"user": "u", "groups": 3, "resourceAttributes": {}}),
        ("authentication.k8s.io/v1/tokenreviews", {"token": 5}),
        ("authentication.k8s.io/v1/tokenreviews", 3),
    ],
)
def test_reviews_of_the_wrong_type(http_as: Any, plural: str, spec: Any) -> None:
    answer = http_as("POST", f"/apis/{plural}", {"spec": spec})
    assert answer.status == 400, answer.body
    assert "spec" in answer.json["message"]


def test_a_watch_from_the_future(http_as: Any) -> None:
    answer = http_as("GET", f"{CONFIG_MAPS}?watch=1&resourceVersion=99999999&timeoutSeconds=1")
    assert answer.status == 504
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_duplicate_fields_are_named_with_their_place(http_as: Any) -> None:
    body = b'{"metadata":{"name":"d","labels":{"a":"1","a":"2"}},"spec":{"containers":[{"name":"c","name":"d"}]}}'
    answer = http_as("POST", f"{PODS}?fieldValidation=Strict", body)
    assert answer.status == 400
    for path in ("metadata.labels.a", "spec.containers[0].name"):
        assert f'duplicate field "{path}"' in answer.json["message"]


def test_a_head_that_is_too_large(http_as: Any) -> None:
    head = b"GET /version HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"
    assert http_as.raw(head).startswith(b"HTTP/1.1 431 ")

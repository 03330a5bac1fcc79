import pytest

from corral.apiserver.negotiation import PLAIN, Format, choose
from corral.kinds.status import StatusError

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/*", "text/html, */*;q=0.8"])
def test_json_is_what_everybody_takes(accept: str) -> None:
    assert choose(accept, listing=False) == PLAIN


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (f"{TABLE},application/json", Format("json", "Table", "meta.k8s.io", "v1")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", PLAIN),
        ("application/vnd.kubernetes.protobuf,application/json", PLAIN),
        ("application/yaml", Format("yaml")),
        ("application/json;q=0.1, application/yaml;q=0.9", Format("yaml")),
        (
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            Format("json", "PartialObjectMetadata", "meta.k8s.io", "v1"),
        ),
        ("application/json;stream=watch", PLAIN),
    ],
)
def test_the_first_that_we_can_make_wins(accept: str, form: Format) -> None:
    assert choose(accept, listing=False) == form


@pytest.mark.parametrize(
    "accept", ["application/vnd.kubernetes.protobuf", "text/html", "application/json;as=Nothing;v=v1;g=x"]
)
def test_what_we_cannot_make_is_refused(accept: str) -> None:
    with pytest.raises(StatusError) as refused:
        choose(accept, listing=True)
    assert (refused.value.code, refused.value.reason) == (406, "NotAcceptable")

"""Objects for the tests; every call makes a new one."""

from typing import Any

from corral.kinds.types import Obj


def meta(name: str = "x", namespace: str = "default", **more: Any) -> Obj:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


def pod_spec(**more: Any) -> Obj:
    return {"containers": [{"name": "main", "image": "busybox"}], **more}


def container(**more: Any) -> Obj:
    return {"name": "main", "image": "busybox", **more}


def pod(**spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta(), "spec": pod_spec(**spec)}


def template(**spec: Any) -> Obj:
    return {"metadata": {"labels": {"app": "x"}}, "spec": pod_spec(**spec)}


def workload(kind: str, **spec: Any) -> Obj:
    wanted = {"selector": {"matchLabels": {"app": "x"}}, "template": template(), **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta(), "spec": wanted}


def job(**spec: Any) -> Obj:
    wanted = {"template": {"spec": pod_spec(restartPolicy="Never")}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("j"), "spec": wanted}


def plain(api_version: str, kind: str, namespace: str = "default", **fields: Any) -> Obj:
    return {"apiVersion": api_version, "kind": kind, "metadata": meta(namespace=namespace), **fields}


def crd(schema: Obj | None = None, **version: Any) -> Obj:
    openapi = schema or {"type": "object", "properties": {"spec": {"type": "object"}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": openapi}, **version}
            ],
        },
    }

"""The manifests for Kubernetes in `docs/examples`, read for tests."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import yaml

EXAMPLES: Final = Path(__file__).parents[1] / "docs" / "examples"
MANIFESTS: Final = ("kubernetes.yaml", "kubernetes-sidecar.yaml")

Object = Mapping[str, Any]


@cache
def documents(name: str) -> list[Object]:
    """Return the objects of a manifest."""
    return list(yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")))


def pod(name: str) -> Object:
    """Return what a manifest says of a pod: the last object is a StatefulSet or a patch of one."""
    return cast("Object", documents(name)[-1]["spec"]["template"]["spec"])


def container(name: str) -> Object:
    """Return what a manifest says of peruserd's container."""
    (found,) = [each for each in pod(name)["containers"] if each["name"] == "peruserd"]
    return cast("Object", found)


def environment(name: str) -> dict[str, str]:
    """Return the variables of that container as Kubernetes would set them for the second pod."""
    found: dict[str, str] = {}
    (secret,) = [each for each in documents("kubernetes.yaml") if each["kind"] == "Secret"]
    for each in container(name)["env"]:
        if "value" in each:
            text = each["value"]
            for earlier, value in found.items():
                text = text.replace(f"$({earlier})", value)
        elif "secretKeyRef" in each["valueFrom"]:
            reference = each["valueFrom"]["secretKeyRef"]
            assert reference["name"] == secret["metadata"]["name"]
            text = secret["stringData"][reference["key"]]
        else:
            assert each["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
            text = "1"
        found[each["name"]] = text
    return found


def probes(name: str) -> dict[str, str]:
    """Return the path of each probe of that container."""
    return {key: each["httpGet"]["path"] for key, each in container(name).items() if key.endswith("Probe")}

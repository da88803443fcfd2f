"""The container file and the manifests for Kubernetes agree with the program and with each other."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from peruserd import __version__
from peruserd.cli.parser import build_parser
from peruserd.core.configuration.config import HTTPConfig
from peruserd.core.configuration.decoding import load, split_address
from peruserd.core.configuration.loopback import is_loopback
from peruserd.daemon.state import DEFAULT_STATE_DIRECTORY
from peruserd.ending import LAST_RESORT_SECONDS
from tests.manifests import EXAMPLES, MANIFESTS, container, documents, environment, pod, probes

ROOT = Path(__file__).parents[1]
CONTAINERFILE: Final = (EXAMPLES / "Containerfile").read_text().replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    """Return what follows each instruction of that name in the container file."""
    return re.findall(rf"^{name} (.*)$", CONTAINERFILE, re.MULTILINE)


@pytest.fixture(params=MANIFESTS)
def manifest(request: pytest.FixtureRequest) -> str:
    """Give the name of each manifest."""
    return str(request.param)


def test_the_image_is_built_from_what_is_sent_to_the_builder() -> None:
    """Each file that is copied is there, and `.dockerignore` lets it through; nothing else is let through."""
    copied = [each.split()[:-1] for each in instructions("COPY") if not each.startswith("--from")]
    sources = {source for each in copied for source in each}
    assert all((ROOT / source).exists() for source in sources)
    ignoring = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignoring
    assert {line[1:] for line in ignoring if line.startswith("!")} == sources


def test_the_image_runs_the_daemon_as_nobody_in_particular() -> None:
    """The account is a number other than root's, and the state directory is its own."""
    (user,) = instructions("USER")
    account, group = user.split(":")
    assert int(account) > 0
    assert f"--owner={account} --group={group} --mode=0700 {DEFAULT_STATE_DIRECTORY}" in CONTAINERFILE
    entry, arguments = json.loads(instructions("ENTRYPOINT")[0]), json.loads(instructions("CMD")[0])
    assert entry[-1] == "peruserd"
    assert build_parser().parse_args(arguments).command == "run"
    assert [int(port) for port in instructions("EXPOSE")] == [split_address(HTTPConfig().listen)[1]]


def test_the_environment_is_a_configuration(manifest: str) -> None:
    """The daemon takes these variables, and needs no file beside them but the password."""
    found = environment(manifest)
    config = load("", found, manifest).config
    volumes = {each["mountPath"]: each["name"] for each in container(manifest)["volumeMounts"]}
    assert config.couchdb.username
    assert config.couchdb.password_file is not None
    password = Path(config.couchdb.password_file)
    (secret,) = [each["secret"] for each in pod(manifest)["volumes"] if each["name"] == volumes[str(password.parent)]]
    assert password.name in [each["path"] for each in secret["items"]]
    # An instance belongs to one node.
    assert config.couchdb.url in ("http://couchdb-1.couchdb:5984", "http://127.0.0.1:5984")


def test_the_port_that_is_probed_and_scraped_is_the_one_that_is_served(manifest: str) -> None:
    """The kubelet and Prometheus ask under the pod's address, so loopback would not do."""
    host, port = split_address(load("", environment(manifest), manifest).config.http.listen)
    assert not is_loopback(host)
    ((name, number),) = [(each["name"], each["containerPort"]) for each in container(manifest)["ports"]]
    assert number == port
    for probe in probes(manifest):
        assert container(manifest)[probe]["httpGet"]["port"] == name
    for each in documents(manifest):
        if each.get("kind") == "Service":
            assert [(each["port"], each["targetPort"]) for each in each["spec"]["ports"]] == [(port, name)]


def test_a_restart_is_for_what_a_restart_can_cure(manifest: str) -> None:
    """An instance that is not ready is not restarted, and takes no CouchDB out of its service."""
    assert probes(manifest)["livenessProbe"] == "/healthz"
    if manifest == "kubernetes.yaml":
        assert probes(manifest)["readinessProbe"] == "/readyz"
    else:
        assert "readinessProbe" not in probes(manifest)


def test_a_stop_has_its_time(manifest: str) -> None:
    """The pod waits longer than the daemon does for itself; CouchDB waits until the lease is released."""
    grace = pod(manifest)["terminationGracePeriodSeconds"]
    assert grace >= LAST_RESORT_SECONDS + 3.0
    for each in pod(manifest)["containers"]:
        if each["name"] == "couchdb":
            command, seconds = each["lifecycle"]["preStop"]["exec"]["command"]
            assert command == "sleep"
            assert 5 <= int(seconds) < grace


def test_the_container_can_write_where_it_must_and_nowhere_else(manifest: str) -> None:
    """The root is read-only. The state directory and /tmp are volumes, and the account is that of the image."""
    ours = container(manifest)["securityContext"]
    of_pod = pod(manifest).get("securityContext", {})
    assert ours["readOnlyRootFilesystem"]
    assert ours["capabilities"] == {"drop": ["ALL"]}
    assert not ours["allowPrivilegeEscalation"]
    assert {**of_pod, **ours}["runAsNonRoot"]
    assert str({**of_pod, **ours}["runAsUser"]) == instructions("USER")[0].partition(":")[0]
    mounts = container(manifest)["volumeMounts"]
    assert {each["mountPath"] for each in mounts if not each.get("readOnly")} == {DEFAULT_STATE_DIRECTORY, "/tmp"}  # noqa: S108
    claimed = [each["metadata"]["name"] for each in documents(manifest)[-1]["spec"].get("volumeClaimTemplates", ())]
    assert {each["name"] for each in mounts} == {*claimed, *(each["name"] for each in pod(manifest)["volumes"])}
    assert container(manifest)["resources"]["limits"]["memory"]


def test_the_image_is_of_this_version(manifest: str) -> None:
    """A tag that moves would update the pods by chance."""
    assert container(manifest)["image"].partition(":")[2] == __version__

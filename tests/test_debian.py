"""The files of the Debian package agree with the program, the unit and the lock.

`make deb` builds the package, and `.ci/try-deb` tries it in a bare system. Both need more than CI has.
"""

import re
import shlex
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from textwrap import indent

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from peruserd.cli.installing_parsers import COMMANDS_PAGE, CONFIGURATION_PAGE, SHELLS
from peruserd.core.configuration.decoding import load
from peruserd.daemon.state import DEFAULT_STATE_DIRECTORY
from tests.test_package import PROJECT

ROOT = Path(__file__).parents[1]
DEBIAN = ROOT / ".ci" / "debian"
UNIT = (ROOT / "peruserd.service").read_text()


def rows(name: str) -> list[list[str]]:
    """Return the words of each line of one of debhelper's files."""
    return [line.split() for line in (DEBIAN / name).read_text().splitlines()]


def pins(name: str) -> dict[str, str]:
    """Return each library of a lock with its version."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / ".ci" / name).read_text(), re.MULTILINE))


def needed(libraries: Iterable[str]) -> set[str]:
    """Return the names of these libraries, and of those that they need in turn on this Python."""
    found: set[str] = set()
    left = [*map(Requirement, libraries)]
    while left:
        library = left.pop()
        if library.name not in found and (library.marker is None or library.marker.evaluate({"extra": ""})):
            found.add(canonicalize_name(library.name))
            left += map(Requirement, metadata.requires(library.name) or ())
    return found


@pytest.mark.parametrize("script", ["postinst", "postrm", "prerm"])
def test_the_scripts_are_scripts_of_sh(script: str) -> None:
    """The mark is where debhelper puts commands of its own."""
    text = (DEBIAN / script).read_text()
    assert text.startswith("#!/bin/sh\nset -e\n")
    assert text.count("\n#DEBHELPER#\n") == 1
    subprocess.run(["/bin/sh", "-n", str(DEBIAN / script)], check=True, timeout=60)


def test_an_upgrade_waits_for_no_server() -> None:
    """A start is over when users are served. The server can be a part of the same upgrade, and come after this one."""
    script = (DEBIAN / "postinst").read_text()
    assert "systemctl --no-block try-restart peruserd.service" in script
    assert "dh_installsystemd --no-enable --no-start --no-stop-on-upgrade\n" in (DEBIAN / "rules").read_text()


def test_the_unit_finds_its_program_and_its_configuration() -> None:
    """The unit is installed as it is, so its paths are those of the package."""
    (command,) = re.findall("^ExecStart=(.*)$", UNIT, re.MULTILINE)
    words = shlex.split(command)
    assert ["usr/lib/peruserd/bin/peruserd", words[0].lstrip("/")] in rows("links")
    assert ["debian/peruserd.toml", str(Path(words[words.index("--config") + 1]).parent).lstrip("/")] in rows("install")
    # A bare system has no /bin/kill.
    assert "/bin/kill" not in UNIT or re.search("^Depends: .*procps,", (DEBIAN / "control").read_text(), re.MULTILINE)


def test_a_purge_removes_the_state_and_the_password() -> None:
    """They are where the unit has them."""
    script = (DEBIAN / "postrm").read_text()
    assert "LogsDirectory=peruserd" in UNIT
    assert "rm -rf /var/log/private/peruserd /var/log/peruserd" in script
    (credential,) = re.findall("^LoadCredential=.*:(.*)$", UNIT, re.MULTILINE)
    assert f"rm -f {credential}\n" in script
    assert f" {DEFAULT_STATE_DIRECTORY}\n" in script
    assert DEFAULT_STATE_DIRECTORY.replace("/var/lib/", "/var/lib/private/") in script


def test_the_configuration_is_one_that_the_program_takes() -> None:
    """It is so as it is installed, and with the name of an account."""
    text = (DEBIAN / "peruserd.toml").read_text()
    assert load(text, {}, "peruserd.toml").config.couchdb.username is None
    named = text.replace('# username = "peruserd"', 'username = "peruserd"')
    assert load(named, {}, "peruserd.toml").config.couchdb.username == "peruserd"


def test_what_is_packed_is_what_the_build_makes() -> None:
    """The program prints completion, manual pages and the sample; the build writes each to the file that is packed."""
    made = set(re.findall(r"> ?(generated/\S+)$", (ROOT / ".ci" / "build-deb").read_text(), re.MULTILINE))
    packed = {words[0] for name in ("install", "manpages", "examples") for words in rows(name)}
    assert {each for each in packed if each.startswith("generated/")} == made
    assert {f"generated/{COMMANDS_PAGE}", f"generated/{CONFIGURATION_PAGE}"} <= made
    assert {each.split("/")[1] for each in made if each.count("/") == 2} == set(SHELLS)
    for name in ("docs", "install"):
        for words in rows(name):
            source = words[0].replace("debian/", ".ci/debian/")
            assert source.startswith("generated/") or (ROOT / source).exists()


def test_the_lock_of_packages_has_what_the_daemon_needs_and_nothing_else() -> None:
    """Its versions are those that are tested."""
    runtime, tested = pins("requirements-runtime.txt"), pins("requirements.txt")
    assert set(runtime) == needed(PROJECT["dependencies"])
    assert {name: tested[name] for name in runtime} == runtime


def test_the_rotation_of_the_package_is_that_of_the_documentation() -> None:
    """It concerns the directory of the unit, where the documentation has the audit's file."""
    rotation = (DEBIAN / "logrotate").read_text()
    assert rotation.startswith("/var/log/peruserd/*.log {")
    page = (ROOT / "docs" / "logs.md").read_text()
    assert indent(rotation, "    ") in page
    assert 'audit_file = "/var/log/peruserd/audit.log"' in page

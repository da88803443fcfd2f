"""The wheel: it has every file of the package, and installs a program that runs."""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from peruserd import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "peruserd"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Names to import, where they are not the distributions' own. A library of an extra is imported in one folder alone.
_DISTRIBUTIONS = {"prometheus_client": "prometheus-client"}
_OF_EXTRAS = {"aiohttp": ("simcluster", "simcluster"), "rich": ("demo", "demo"), "shtab": ("completion", "cli")}

_IMPORT_ALL = """
import importlib, json, pkgutil, peruserd
names = [each.name for each in pkgutil.walk_packages(peruserd.__path__, "peruserd.") if "__main__" not in each.name]
for name in names:
    importlib.import_module(name)
print(json.dumps({"where": peruserd.__path__[0], "names": names}))
"""


class Built(NamedTuple):
    """A source distribution, and the wheel built from it."""

    sdist: Path
    wheel: Path


def _build(kind: str, source: Path, target: Path) -> Path:
    """Build one distribution as `pip` does, but with what is installed here, so that no network is needed."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)],
        check=True,
        capture_output=True,
        cwd=source,
        timeout=120,
    )
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the source distribution from the tree, and the wheel from that alone."""
    place = tmp_path_factory.mktemp("built")
    sdist = _build("sdist", ROOT, place / "sdist")
    with tarfile.open(sdist) as archive:
        # Debian 12's Python has no filters yet.
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(place / "unpacked")  # noqa: S202 - the archive was built just now
    (source,) = (place / "unpacked").iterdir()
    return Built(sdist, _build("wheel", source, place / "wheel"))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new virtual environment, which sees the dependencies of this one; return its `bin`."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    python = venv / "bin" / "python"
    (packages,) = venv.glob("lib/python3.*/site-packages")
    # A line of this file becomes a place to import from. The editable peruserd there is none, because that needs a
    # second file of this kind, and Python does not read one there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(built.wheel)], check=True, timeout=120)
    return venv / "bin"


def _run(command: list[str], cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PERUSERD_", "PYTHON"))}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=clean, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def _files_of_the_package() -> Iterator[str]:
    for folder, _, names in os.walk(PACKAGE):
        if Path(folder).name != "__pycache__":
            yield from (Path(folder, name).relative_to(ROOT).as_posix() for name in names)


@pytest.mark.processes
def test_the_wheel_has_every_file_of_the_package_and_nothing_else(built: Built) -> None:
    """Rules, dashboards and pages are files that no import would miss."""
    with zipfile.ZipFile(built.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        unit = wheel.read("peruserd/peruserd.service")
    assert held == set(_files_of_the_package())
    assert unit == (ROOT / "peruserd.service").read_bytes()


@pytest.mark.processes
def test_a_fresh_installation_runs_and_imports_everything(installed: Path, tmp_path: Path) -> None:
    """The program answers from another directory than the sources'."""
    program = str(installed / "peruserd")
    assert _run([program, "--version"], tmp_path) == f"peruserd {__version__}\n"
    assert tomllib.loads(_run([program, "config"], tmp_path))["couchdb"]["auth_db"] == "_users"
    imported = json.loads(_run([str(installed / "python"), "-c", _IMPORT_ALL], tmp_path))
    assert Path(imported["where"]).is_relative_to(installed.parent)
    assert {"peruserd.daemon.instance", "peruserd.simcluster.runner"} <= set(imported["names"])


@pytest.mark.processes
def test_the_unit_of_an_installation_starts_its_program(installed: Path, tmp_path: Path) -> None:
    """The printed unit is that of the sources, apart from the path of the program."""
    command = [str(installed / "peruserd"), "unit"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True)
    assert f"\nExecStart={installed}/peruserd run --config /etc/peruserd/peruserd.toml\n" in ran.stdout
    original = (ROOT / "peruserd.service").read_text()
    assert ran.stdout.replace(f"={installed}/peruserd run", "=/usr/bin/peruserd run") == original
    assert "hides that directory" in ran.stderr or not str(installed).startswith(("/home", "/root", "/tmp"))  # noqa: S108


@pytest.mark.processes
def test_the_description_names_the_version_and_the_extras(built: Built) -> None:
    """The version stands in the package alone, and the wheel has it from there."""
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = wheel.read(f"peruserd-{__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert set(re.findall("^Provides-Extra: (.*)$", metadata, re.MULTILINE)) == set(PROJECT["optional-dependencies"])


@pytest.mark.processes
def test_the_sources_have_what_tests_need(built: Built) -> None:
    """A distribution's maintainer builds and tests from the archive."""
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("LICENSE", "CHANGELOG.md", "peruserd.service", "tests/test_package.py", "docs/configuration.md"):
        assert needed in names


def test_the_changelog_begins_with_this_version() -> None:
    """A release has one version: of the program, the distributions, and the newest section of the changelog."""
    assert "version" not in PROJECT
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1].rstrip(",") == __version__


def _imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"peruserd", "_typeshed"}


def test_dependencies_and_extras_are_what_is_imported() -> None:
    """A library is named where it is needed, so that a plain installation runs the daemon and is no larger."""
    named = {re.split("[<>=]", each)[0] for each in PROJECT["dependencies"]}
    needed: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for each in _imported(file):
            needed.setdefault(each, set()).add(file.relative_to(PACKAGE).parts[0])
    plain = {_DISTRIBUTIONS.get(each, each) for each in needed if each not in _OF_EXTRAS}
    assert plain == named
    for name, (extra, folder) in _OF_EXTRAS.items():
        assert any(each.startswith(name) for each in PROJECT["optional-dependencies"][extra])
        assert needed[name] == {folder}

"""Templates read from a directory, and put on record by an instance."""

import os
import threading
from pathlib import Path

import msgspec
import pytest

from peruserd.core.configuration.config import Config, DatabasesConfig, TemplatesConfig
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates
from peruserd.couch.errors import ServerError
from peruserd.couch.session import Session
from peruserd.couch.tokens import NOBODY, Tokens
from peruserd.daemon.templates import TemplateKeeper, load_templates
from tests.waiting import eventually


def config_of(directory: Path, **more: object) -> Config:
    """Return a configuration with this directory."""
    return msgspec.structs.replace(Config(templates=TemplatesConfig(str(directory))), **more)


def write(directory: Path, name: str, text: str) -> Path:
    """Write one file of templates."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def problems(config: Config) -> list[str]:
    """Return the problems of the templates."""
    with pytest.raises(ConfigError) as caught:
        load_templates(config)
    return caught.value.problems


def test_without_a_directory_there_are_none() -> None:
    """Without a configured directory nothing is read."""
    assert load_templates(Config()) == NO_TEMPLATES


def test_a_directory_is_read(tmp_path: Path) -> None:
    """Documents, roles and options are read. A volume of Kubernetes has links and hidden names."""
    write(tmp_path, "..data/a.json", '{"_id": "a"}')
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.json").symlink_to(tmp_path / "..data" / "a.json")
    write(tmp_path, "documents/.swp", "x")
    write(tmp_path, "security.json", '{"members": {"roles": ["audit"]}}')
    write(tmp_path, "options.json", '{"_revs_limit": 9}')
    assert load_templates(config_of(tmp_path)) == Templates(
        (Template("a", {}),), member_roles=("audit",), options={"_revs_limit": 9}
    )


def test_an_empty_directory_has_none(tmp_path: Path) -> None:
    """The directory need not have each kind of file."""
    assert load_templates(config_of(tmp_path)) == NO_TEMPLATES


def test_a_directory_that_is_missing_is_a_mistake(tmp_path: Path) -> None:
    """After a failed mount no database must be made without its documents."""
    (found,) = problems(config_of(tmp_path / "none"))
    assert found == f"templates.directory: {tmp_path}/none: cannot be read: No such file or directory"


def test_all_that_does_not_belong_there_is_named(tmp_path: Path) -> None:
    """A file with another name is an error, because silence would hide a typing mistake."""
    write(tmp_path, "a.json", "{}")
    write(tmp_path, "documents/README.md", "x")
    write(tmp_path, "documents/deep/b.json", "{}")
    write(tmp_path, "documents/bad.json", "{")
    (tmp_path / "documents" / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "documents" / "folder.json").mkdir()
    os.mkfifo(tmp_path / "options.json")
    found = [each.split(": ")[1].removeprefix(f"{tmp_path}/") for each in problems(config_of(tmp_path))]
    assert sorted(found) == [
        "a.json",
        "documents/README.md",
        "documents/bad.json",
        "documents/deep",
        "documents/folder.json",
        "documents/gone.json",
        "options.json",
    ]


def test_a_link_that_leads_nowhere_is_no_missing_directory(tmp_path: Path) -> None:
    """Documents that cannot be read are an error, and are not left out silently."""
    (tmp_path / "documents").symlink_to(tmp_path / "nowhere")
    assert problems(config_of(tmp_path)) == [
        f"templates.directory: {tmp_path}/documents: cannot be read: No such file or directory"
    ]


def test_a_file_in_the_place_of_a_directory_is_a_mistake(tmp_path: Path) -> None:
    """The text of the error is the system's."""
    assert "Not a directory" in problems(config_of(write(tmp_path, "file", "")))[0]


def test_a_file_of_any_size_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    """The directory may contain something else, such as a database."""
    with (tmp_path / "options.json").open("wb") as file:
        file.truncate(1 << 40)
    assert "bytes" in problems(config_of(tmp_path))[0]


def test_partitioned_databases_need_ids_that_fit(tmp_path: Path) -> None:
    """The rest of the configuration decides whether a design document is a risk."""
    write(tmp_path, "documents/a.json", '{"_id": "a"}')
    assert "partition" in problems(config_of(tmp_path, databases=DatabasesConfig(partitioned=True)))[0]


class Record:
    """Stands in for the record, and fails for a while."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.kept: list[Templates] = []
        self.asked = threading.Event()

    def keep(self, templates: Templates) -> int:
        """Keep the templates."""
        self.asked.set()
        if self.failures:
            self.failures -= 1
            raise ServerError("no majority")
        self.kept.append(templates)
        return 1


def keeper(record: Record, templates: Templates, *, usable: bool = True) -> TemplateKeeper:
    """Return a keeper that tries again at once."""
    return TemplateKeeper(
        Session(Config().couchdb, Tokens(NOBODY)),
        record,  # type: ignore[arg-type]
        templates,
        is_usable=lambda: usable,
        interval_seconds=0.001,
    )


def test_templates_are_put_on_record_as_soon_as_it_is_possible() -> None:
    """Without a majority in the cluster the record is written later, and no other part waits for it."""
    record, templates = Record(3), Templates((Template("a", {}),))
    made = keeper(record, templates)
    made.start()
    eventually(lambda: record.kept == [templates], "they are on record")
    made.stop()


def test_nothing_is_kept_where_there_is_nothing() -> None:
    """Without documents no thread is started, and `stop` does nothing."""
    record = Record(0)
    made = keeper(record, NO_TEMPLATES)
    made.start()
    made.stop()
    assert made._tasks == []
    assert record.kept == []


def test_a_database_of_somebody_elses_gets_nothing() -> None:
    """The keeper goes on waiting until the instance ends."""
    record = Record(0)
    made = keeper(record, Templates((Template("a", {}),)), usable=False)
    made.start()
    made.stop()
    for each in made._tasks:
        assert each.join()
    assert not record.asked.is_set()


def test_later_templates_come_on_record_beside_earlier_ones() -> None:
    """A reload brings other templates while the first ones wait for the cluster. A rollout needs to know both."""
    record = Record(3)
    first, second = (Templates((Template("a", {"version": number}),)) for number in (1, 2))
    made = keeper(record, first)
    made.start()
    made.keep(second)
    eventually(lambda: len(record.kept) == 2, "both are on record")
    assert first in record.kept
    assert second in record.kept
    made.stop()

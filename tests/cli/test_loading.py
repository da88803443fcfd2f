"""The configuration of a daemon, read at its start and again at a reload."""

import os
import threading
from pathlib import Path

import pytest

from peruserd.cli.loading import ConfigurationFile
from peruserd.core.configuration.decoding import ConfigError

TEXT = '[couchdb]\nusername = "adm"\n[log]\nlevel = "info"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, with the password and a key in the environment."""
    for name in [each for each in os.environ if each.startswith("PERUSERD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PERUSERD_COUCHDB_PASSWORD", "s3cret")
    monkeypatch.setenv("PERUSERD_AUDIT_RATE", "3")
    path = tmp_path / "peruserd.toml"
    path.write_text(TEXT)
    return path


def test_the_environment_of_the_start_counts_at_each_reload(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is gone from the process's environment by then, and nobody can change that of a running process."""
    configuration = ConfigurationFile(str(file))
    configuration.read()
    assert "PERUSERD_COUCHDB_PASSWORD" not in os.environ
    monkeypatch.delenv("PERUSERD_AUDIT_RATE")
    file.write_text(TEXT.replace("info", "debug"))
    loaded, source = configuration.read()
    assert (loaded.config.log.level, loaded.config.audit.rate) == ("debug", 3.0)
    assert source.credentials is not None
    assert source.credentials.password.value == "s3cret"


def test_without_a_file_the_environment_alone_is_read_again(file: Path) -> None:
    """An instance in a container may have no file at all."""
    file.unlink()
    configuration = ConfigurationFile(None)
    with pytest.raises(ConfigError, match=r"couchdb\.username"):
        configuration.read()


def test_a_file_that_is_gone_is_named(file: Path) -> None:
    """The reload is refused, and the next one finds the file again."""
    configuration = ConfigurationFile(str(file))
    configuration.read()
    file.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        configuration.read()
    file.write_text(TEXT)
    configuration.read()


def _pipe(path: Path, content: str) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    threading.Thread(target=path.write_text, args=(content,), daemon=True).start()


def test_a_configuration_from_a_pipe_is_not_read_again(file: Path) -> None:
    """Nobody writes into the pipe a second time, so a second reading would wait for ever."""
    _pipe(file, TEXT)
    configuration = ConfigurationFile(str(file))
    configuration.read()
    with pytest.raises(ConfigError, match="no regular file"):
        configuration.read()


def test_a_password_from_a_pipe_stays(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the configuration can be read again. Another account with the same pipe is refused."""
    monkeypatch.delenv("PERUSERD_COUCHDB_PASSWORD")
    _pipe(tmp_path / "password", "from the pipe\n")
    text = f'[couchdb]\nusername = "adm"\npassword_file = "{tmp_path}/password"\n'
    file.write_text(text)
    configuration = ConfigurationFile(str(file))
    configuration.read()
    file.write_text(f'{text}[log]\nlevel = "debug"\n')
    loaded, source = configuration.read()
    assert loaded.config.log.level == "debug"
    assert source.credentials is not None
    assert source.credentials.password.value == "from the pipe"
    file.write_text(text.replace("adm", "other"))
    with pytest.raises(ConfigError, match="at a start only"):
        configuration.read()

"""`peruserd run`: the daemon."""

import argparse

import structlog

from peruserd import logs
from peruserd.cli.loading import ConfigurationFile
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.configuration.problems import exit_code_of
from peruserd.daemon import instance, systemd
from peruserd.supervisor.signals import hold_hangup, ignore_hangup

log = structlog.get_logger(__name__)


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; return the exit code.

    Raises ConfigError if the log cannot be set up, because the configuration says how that is done.
    """
    hold_hangup()
    notifier = systemd.from_environment()
    file = ConfigurationFile(options.config)
    try:
        loaded, source = file.read()
    except ConfigError as error:
        _notify(notifier, error)
        raise
    logs.configure(loaded.config.log, loaded.config.databases.prefix)
    logs.log_the_end()
    try:
        logs.open_audit_file()
        return instance.run(loaded.config, source, notifier, file.read)
    except ConfigError as error:
        _notify(notifier, error)
        code = exit_code_of(error)
        logs.say_rest()
        for problem in error.problems:
            log.error("cannot start", error=problem, code=code)  # noqa: TRY400 - the sentence says it all
        return code
    finally:
        ignore_hangup()


def _notify(notifier: systemd.Notifier, error: ConfigError) -> None:
    """Let `systemctl status` show why the daemon has ended, also where nobody may read the log."""
    notifier.status(f"cannot start: {error.problems[0]}")

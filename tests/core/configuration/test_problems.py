import errno

import pytest

from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.configuration.problems import Problems, TemporaryError, error_of, exit_code_of


def test_a_problem_that_lasts_counts_more_than_one_that_can_pass() -> None:
    """Somebody must change the configuration anyway, and then sees all problems at once."""
    problems = Problems()
    problems.raise_any()
    problems.add("the file is missing", lasts=False)
    with pytest.raises(TemporaryError) as passing:
        problems.raise_any()
    assert (exit_code_of(passing.value), passing.value.problems) == (75, ["the file is missing"])
    problems.add_from(TemporaryError(["the disk is full"]))
    problems.add_from(ConfigError(["the key is unknown"]))
    with pytest.raises(ConfigError) as lasting:
        problems.raise_any()
    assert exit_code_of(lasting.value) == 78
    assert lasting.value.problems == ["the key is unknown", "the file is missing", "the disk is full"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        *((each, 78) for each in (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)),
        *((each, 75) for each in (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE)),
        (None, 75),
    ],
)
def test_a_path_that_is_wrong_in_itself_lasts_and_all_else_can_pass(number: int | None, code: int) -> None:
    """In doubt an error can pass, because a daemon that is given up for good serves nobody."""
    error = OSError("of no known kind") if number is None else OSError(number, "as the system says")
    assert exit_code_of(error_of("state.directory: cannot be used", error)) == code

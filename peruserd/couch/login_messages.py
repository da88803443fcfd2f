"""The messages about a failed login. A daemon tries again by itself; a command ends, and says what to do."""

import msgspec


class LoginMessages(msgspec.Struct, frozen=True):
    """The messages about one account. `origin` names the source of the password; `is_file` says that it can change.

    `asks_again` says that this process tries again. `needs_restart` says that it would not see another password. Pauses
    are in seconds.
    """

    username: str
    origin: str = ""
    is_file: bool = False
    asks_again: bool = True
    needs_restart: bool = False

    def refused(self, pause: float) -> str:
        """Say that the password was refused."""
        words = f"CouchDB refuses the password of {self.username}, which is from {self.origin}; put the right one there"
        if not self.asks_again:
            return f"{words}, and run this command again"
        if not self._sees_another:
            return f"{words}, and restart peruserd; CouchDB is asked again in {pause:.0f} s"
        return f"{words}; CouchDB is asked again in {pause:.0f} s, and as soon as another one is there"

    def locked(self, pause: float, *, by_us: bool) -> str:
        """Say that the account is locked; `by_us` says that this instance's own password was refused before."""
        words = f"CouchDB has locked the account {self.username} for this address"
        who = "after refusals of this instance's password" if by_us else _SOMEBODY_ELSE
        if self.asks_again:
            return f"{words} {who}; CouchDB is asked again in {pause:.0f} s"
        return f"{words} {who}; a lock ends within 5 minutes, so run this command again then"

    def withheld(self, refusals: int, pause: float) -> str:
        """Say that the password is not sent for now, because it was refused too often."""
        words = (
            f"passwords of {self.username} were refused {refusals} times within minutes, so none is sent for another "
            f"{pause:.0f} s, or CouchDB would lock the account; see that {self.origin} has the right one"
        )
        if not self.asks_again:
            return f"{words}, and run this again then"
        return f"{words}, which is sent then" if self._sees_another else f"{words}, and restart peruserd if not"

    @property
    def _sees_another(self) -> bool:
        return self.is_file and not self.needs_restart

    def unanswered(self, pause: float) -> str:
        """Say that no answer came."""
        words = f"no answer to a login of {self.username}"
        return f"{words}; it is tried again in {pause:.0f} s" if self.asks_again else f"{words}; run this command again"


# This instance would have noted its own refusals.
_SOMEBODY_ELSE = "although this instance's password was not refused: somebody else behind the address has failed"

"""The result of one look at a user, as workers hand it on."""

import msgspec

from peruserd.core.users.quarantine import Failure


class Outcome(msgspec.Struct):
    """The result of one action: what it did, and whether it came to its end.

    `acted_on` says whether the action was for a deleted document or for one that is there, whatever the change hinted
    at; None where nothing was acted on. `whole` says that the security object is known to be right in every copy,
    so nothing of it is in doubt any more. `furnished` says that documents or options of templates were written.
    """

    provisioned: bool = False
    revoked: bool = False
    created: bool = False
    security_written: bool = False
    whole: bool = False
    failure: Failure | None = None
    acted_on: bool | None = None
    furnished: bool = False

    @property
    def action(self) -> str | None:
        """Return what was done to access or existence, in one word; None where nothing was."""
        if self.created:
            return "create"
        if self.revoked:
            return "revoke"
        if self.security_written:
            return "grant" if self.provisioned else "write"
        return None

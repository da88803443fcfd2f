"""The result of one look at a user, as a worker gives it back."""

import msgspec

from peruserd.core.users.quarantine import Failure


class Outcome(msgspec.Struct):
    """The result of one action: what it did, and whether it came to its end.

    - `acted_on` says whether the document was deleted when the action was made, whatever the change said; None without
      an action.
    - `whole` says that the security object is known to be right in every copy, so it is no longer in doubt.
    - `templates_written` says that documents or options of templates were written.
    """

    provisioned: bool = False
    revoked: bool = False
    created: bool = False
    security_written: bool = False
    whole: bool = False
    failure: Failure | None = None
    acted_on: bool | None = None
    templates_written: bool = False

    @property
    def action(self) -> str | None:
        """Return the change of access or existence in one word; None where there was none."""
        if self.created:
            return "create"
        if self.revoked:
            return "revoke"
        if self.security_written:
            return "grant" if self.provisioned else "write"
        return None

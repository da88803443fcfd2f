"""The lines of several commands about templates."""

from collections.abc import Iterator

from peruserd.core.common.escaping import counted
from peruserd.core.configuration.choices import Grant
from peruserd.core.users.templates import Templates
from peruserd.daemon.templates import DESIGNS_CHANGEABLE


def template_words(templates: Templates, grant: Grant) -> Iterator[str]:
    """Return the lines on the templates for new databases; none without templates."""
    if templates.documents:
        yield f"new databases get {counted(len(templates.documents), 'document')}: {_listed(templates)}"
    roles = {"admins": templates.admin_roles, "members": templates.member_roles}
    for section, given in roles.items():
        if given:
            yield f"people with the role {' or '.join(given)} are {section} of each database"
    if templates.options:
        yield f"options: {', '.join(f'{name} = {value}' for name, value in templates.options.items())}"
    if templates.designs and grant is Grant.ADMIN:
        yield f"careful: {DESIGNS_CHANGEABLE}"


def _listed(templates: Templates) -> str:
    return ", ".join(each.id for each in templates.documents)

"""Job.TagVersion, Job.UntagVersion: names for versions, which are kept as long as they bear one."""

from typing import Final

from core.model.query import Answer
from core.server.endpoints.jobs import job_of, version_of
from core.server.endpoints.shared import checked, only_index
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import TagJobVersion
from core.state.result import Applied

_NAME_MAX: Final = 128
_DESCRIPTION_MAX: Final = 1024


def tag_version(request: Request) -> Proposal:
    """Give a version (the newest, where none is said) the tag that the path names."""
    record, name = job_of(request), _name(request)
    version = request.field("Version", int, record.version)
    version_of(request, record, version)
    description = request.field("Description", str, "")
    if len(description) > _DESCRIPTION_MAX:
        raise QueryError(400, f"the description has more than {_DESCRIPTION_MAX} characters")
    tag = {
        "Name": name,
        "Description": description,
        "TaggedTime": request.server.now.wall_us * 1000,
    }
    command = TagJobVersion(
        namespace=record.namespace, job_id=record.id, name=name, version=version, tag=tag
    )

    def answer(applied: Applied) -> Answer:
        checked(applied)
        return Answer(body={**tag, "Index": applied.index}, index=applied.index)

    return Proposal([command], answer)


def untag_version(request: Request) -> Proposal:
    record = job_of(request)
    command = TagJobVersion(
        namespace=record.namespace, job_id=record.id, name=_name(request), version=-1, tag=None
    )
    return Proposal([command], only_index)


def _name(request: Request) -> str:
    name = request.required("name")
    if len(name) > _NAME_MAX or not name.isprintable() or name != name.strip():
        raise QueryError(
            400, f"a tag is a name of at most {_NAME_MAX} characters without spaces around it"
        )
    if name.isdigit():
        raise QueryError(400, f"the tag {name!r} would be taken for a version's number")
    return name


ENDPOINTS = {
    "Job.TagVersion": Endpoint(Kind.WRITE, tag_version),
    "Job.UntagVersion": Endpoint(Kind.WRITE, untag_version),
}

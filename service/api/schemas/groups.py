"""Documents of groups."""

import uuid
from typing import Any

from pydantic import BaseModel, Field

from service.api.schemas.fields import Body
from service.api.schemas.identities import IdentityView, identity_view
from service.gallery.people.groups import Group, Member
from service.recognition.groups import GroupName, NamedGroup
from service.recognition.person_fields import Metadata, Name

MAX_OMITTED = 1000


class GroupMemberView(BaseModel):
    position: int = Field(description="1 for the identity that is most similar to the group")
    similarity: float = Field(description="cosine similarity to the mean of the group, when it was formed")
    identity_id: uuid.UUID
    external_id: str
    label: str
    named: bool = Field(description="false: the service has created the identity for a face of an unknown person")
    metadata: dict[str, Any] = Field(description="`picture` is the file from which an unnamed identity comes")
    box: list[float] | None = Field(
        description="face in its picture: x_min, y_min, x_max, y_max in pixels; null: the identity has no template"
    )


class GroupView(BaseModel):
    number: int = Field(description="1 for the largest group")
    size: int = Field(description="number of identities that are still in the group; a merge or an erasure removes one")
    names: list[str] = Field(description="external ids of up to 10 named identities of the group")
    representative: GroupMemberView


class GroupsResponse(BaseModel):
    groups: list[GroupView]
    next_cursor: str | None


class GroupMembersResponse(BaseModel):
    members: list[GroupMemberView]
    next_cursor: str | None


class GroupEnrolRequest(Body):
    """The person that a group shows."""

    external_id: Name = Field(description="of a new or an existing identity")
    label: Name | None = None
    metadata: Metadata | None = None
    omit: list[uuid.UUID] = Field([], max_length=MAX_OMITTED, description="identities that show somebody else")

    @property
    def name(self) -> GroupName:
        return GroupName(self.external_id, self.label, self.metadata, self.omit)


class GroupEnrolResponse(IdentityView):
    created: bool
    identities_merged: int
    identities_remaining: int = Field(description="unnamed identities that are left; send the request again for them")


def group_view(group: Group) -> GroupView:
    representative = member_view(group.representative)
    return GroupView(number=group.number, size=group.size, names=group.names, representative=representative)


def member_view(member: Member) -> GroupMemberView:
    view = GroupMemberView.model_validate(member, from_attributes=True)
    return view.model_copy(update={"similarity": round(member.similarity, 6)})


def group_enrol_response(named: NamedGroup) -> GroupEnrolResponse:
    return GroupEnrolResponse(
        **identity_view(named.identity).model_dump(),
        created=named.created,
        identities_merged=named.merged,
        identities_remaining=named.remaining,
    )

"""Operations on groups of faces."""

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from identity_registry.binding import listing, operation
from identity_registry.inputs import without_none
from identity_registry.requests import Body, Listing, Request, path_of
from identity_registry.responses.base import Page
from identity_registry.responses.groups import EnrolledGroup, Group, GroupMember
from identity_registry.responses.jobs import Job


class Groups:
    @operation
    def group_identities(self, name: str, *, fmr: float | None = None, threshold: float | None = None) -> Request[Job]:
        """Starts a job that groups the identities of a collection. Each group may show one person.

        Args:
            fmr: false match rate at the lowest mean similarity in a group.
            threshold: that similarity, in place of `fmr`.
        """
        return _start(name, without_none(fmr=fmr, threshold=threshold))

    @operation
    def group_archive(
        self,
        name: str,
        archive: str | os.PathLike[str],
        *,
        fmr: float | None = None,
        threshold: float | None = None,
    ) -> Request[Job]:
        """Uploads a zip file of pictures, and starts a job that enrols every face without a name and groups them."""
        return _start(name, without_none(fmr=fmr, threshold=threshold), archive=Path(archive))

    @operation
    def group_folder(
        self, name: str, folder: str, *, fmr: float | None = None, threshold: float | None = None
    ) -> Request[Job]:
        """Like `group_archive`, for a folder on the server, below `jobs.import_root`."""
        return _start(name, without_none(fmr=fmr, threshold=threshold), body=Body({"folder": folder}))

    @listing
    def list_groups(self, name: str, job_id: uuid.UUID | str, *, page_size: int | None = None) -> Listing[Group]:
        """Iterates over the groups of a job, the largest first."""
        path, query = path_of("collections", name, "groups", job_id), without_none(limit=page_size)
        return Listing(Request("GET", path, Page[Group].model_validate_json, query))

    @listing
    def list_group_members(
        self, name: str, job_id: uuid.UUID | str, number: int, *, page_size: int | None = None
    ) -> Listing[GroupMember]:
        """Iterates over the identities of a group, the one that is most similar to the group first."""
        path = path_of("collections", name, "groups", job_id, str(number))
        return Listing(Request("GET", path, Page[GroupMember].model_validate_json, without_none(limit=page_size)))

    @operation
    def enrol_group(
        self,
        name: str,
        job_id: uuid.UUID | str,
        number: int,
        external_id: str,
        *,
        label: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        omit: Sequence[uuid.UUID | str] = (),
    ) -> Request[EnrolledGroup]:
        """Merges the unnamed identities of a group into the identity with this external id, which is created if needed.

        Args:
            omit: identities of the group that show somebody else.
        """
        fields = without_none(external_id=external_id, label=label, metadata=metadata)
        body = Body(fields | {"omit": [str(identity_id) for identity_id in omit]})
        path = path_of("collections", name, "groups", job_id, str(number), "enrol")
        return Request("POST", path, EnrolledGroup.model_validate_json, body=body, repeatable=False)


def _start(name: str, query: dict[str, Any], body: Body | None = None, archive: Path | None = None) -> Request[Job]:
    headers = {"Content-Type": "application/zip"} if archive is not None else {}
    path = path_of("collections", name, "groups")
    decode = Job.model_validate_json
    return Request("POST", path, decode, query, body, archive=archive, headers=headers, repeatable=False)

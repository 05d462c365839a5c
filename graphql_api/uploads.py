"""Artefacts on their way: uploads, and the versions that are made of them."""

from datetime import datetime
from typing import Any

import strawberry
import strawberry_django
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from strawberry import relay

from marketplace.access import Permission
from marketplace.catalog import models as catalog
from marketplace.errors import ValidationProblem
from marketplace.publishing import direct, uploads
from marketplace.publishing import models as publishing
from marketplace.publishing.models import UploadStatus

from .context import Info
from .errors import Problem
from .mutation import expected_failures
from .nodes import ByPrimaryKey, primary_key
from .payloads import ModelVersionPayload
from .scalars import BigInt, Upload

strawberry.enum(
    UploadStatus,
    description="PENDING while bytes arrive, COMPLETE once they are whole and hashed, USED by a version.",
)


@strawberry.type(description="`number` counts from 1; `url` takes exactly these bytes by PUT, for some hours.")
class UploadPart:
    number: int
    offset: BigInt
    size_bytes: BigInt
    url: str


@strawberry_django.type(publishing.Upload, description="An artefact on its way into the object store.")
class ArtifactUpload(ByPrimaryKey, relay.Node):
    size_bytes: BigInt
    received_bytes: BigInt
    status: UploadStatus

    @strawberry_django.field(only=["sha256"], description="Of the bytes that have come; null until it is COMPLETE.")
    def sha256(self: Any) -> str | None:
        return self.sha256 or None

    @strawberry_django.field(
        only=["id"],
        description="Where the bytes go: tus 1.0 (PATCH with Upload-Offset, HEAD to resume), or PUT of the whole.",
    )
    def url(self: Any) -> str:
        return str(self.url)

    @strawberry_django.field(
        only=["id", "status", "size_bytes", "received_bytes", "parts_id"],
        description="Where the object store takes the bytes itself: PUT each part, then send their ETags by "
        "completeUpload. Empty otherwise.",
    )
    def parts(self: Any, info: Info) -> list[UploadPart]:
        if not info.context.principal.can(Permission.PUBLISH):
            return []
        return [UploadPart(**part._asdict()) for part in direct.parts_of(self)]

    expires_at: datetime = strawberry_django.field(
        description="When what has come is forgotten, unless a version needs it."
    )


@strawberry.input
class CreateUploadInput:
    size_bytes: BigInt
    sha256: str | None = strawberry.field(
        default=None, description="With the SHA-256 of what your tenant has uploaded before, no bytes are needed."
    )


@strawberry.input
class CompleteUploadInput:
    upload: strawberry.ID
    etags: list[str] = strawberry.field(
        description="What the PUT of each part was answered, in the order of the parts."
    )


@strawberry.input
class CreateModelVersionInput:
    model: str = strawberry.field(description="publisher/name")
    artifact: Upload | None = strawberry.field(default=None, description="The bytes, in this request.")
    upload: strawberry.ID | None = strawberry.field(default=None, description="A finished resumable upload.")
    release_notes: str = ""


@strawberry.type
class _UploadPayload:
    row: strawberry.Private["QuerySet[publishing.Upload] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=ArtifactUpload | None)
    def upload(self) -> "QuerySet[publishing.Upload] | None":
        return self.row


@strawberry.type
class CreateUploadPayload(_UploadPayload):
    pass


@strawberry.type
class CompleteUploadPayload(_UploadPayload):
    pass


@strawberry.type
class CreateModelVersionPayload(ModelVersionPayload):
    pass


@strawberry.type
class UploadsMutation:
    @strawberry.mutation(description="Room for an artefact of that size, and the URL that its bytes are sent to.")
    @expected_failures(CreateUploadPayload)
    def create_upload(self, info: Info, input: CreateUploadInput) -> CreateUploadPayload:
        upload = uploads.create(info.context.principal, size_bytes=input.size_bytes, sha256=input.sha256)
        return CreateUploadPayload(row=publishing.Upload.objects.filter(pk=upload.pk))

    @strawberry.mutation(
        description="Once every one of `parts` is put. The upload stays PENDING until the bytes are hashed: ask `node`."
    )
    @expected_failures(CompleteUploadPayload)
    def complete_upload(self, info: Info, input: CompleteUploadInput) -> CompleteUploadPayload:
        upload_id = primary_key(input.upload, "ArtifactUpload", path="input.upload")
        upload = direct.finish(info.context.principal, upload_id=upload_id, etags=input.etags)
        return CompleteUploadPayload(row=publishing.Upload.objects.filter(pk=upload.pk))

    @strawberry.mutation(
        description="The next version of a model, of one of `artifact` and `upload`. It is VALIDATING until the checks "
        "end, then READY or REJECTED."
    )
    @expected_failures(CreateModelVersionPayload)
    def create_model_version(self, info: Info, input: CreateModelVersionInput) -> CreateModelVersionPayload:
        if (input.artifact is None) == (input.upload is None):
            raise ValidationProblem(_("Send one of `artifact` and `upload`."), path="input.artifact")
        described = {"model_ref": input.model, "release_notes": input.release_notes}
        if input.artifact is not None:
            version = uploads.submit_file(info.context.principal, content=input.artifact, **described)
        else:
            upload_id = primary_key(input.upload or "", "ArtifactUpload", path="input.upload")
            version = uploads.submit(info.context.principal, upload_id=upload_id, **described)
        return CreateModelVersionPayload(row=catalog.ModelVersion.objects.filter(pk=version.pk))

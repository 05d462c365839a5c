"""Objects in an S3 bucket, or in what speaks its protocol: `prefix/<first two hex digits>/<sha256>`, `prefix/staged/…`.

Credentials are found as boto3 finds them (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, a profile, an instance's role).
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .content import (
    PART_BYTES,
    CorruptObject,
    StoreOutOfReach,
    UnexpectedContent,
    checked_name,
    checked_staging_name,
    copy,
)

CONNECT_SECONDS = 5
READ_SECONDS = 60


class S3:
    """`url` is s3://bucket/prefix?endpoint_url=…&region=…"""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        endpoint_url = options.get("endpoint_url")
        self.bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=options.get("region"),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint_url else "auto"},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "max_attempts": 3},
                # Not every server of this protocol knows the newer checksums; ours is the name.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def put(self, content: Path | bytes) -> tuple[str, int]:
        with _translated():
            if isinstance(content, bytes):
                sha256 = hashlib.sha256(content).hexdigest()
                self._client.put_object(Bucket=self.bucket, Key=self._key(sha256), Body=content)
                return sha256, len(content)
            with content.open("rb") as source:
                sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            self._client.upload_file(str(content), self.bucket, self._key(sha256))
            return sha256, content.stat().st_size

    def get(self, sha256: str) -> bytes:
        with _translated():
            content: bytes = self._read(self._key(sha256))["Body"].read()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CorruptObject(sha256)
        return content

    def download(self, sha256: str, to: Path) -> None:
        with _translated():
            source = self._read(self._key(sha256))["Body"]
            with to.open("wb") as target:
                found, _size = copy([source], target)
        if found != sha256:
            to.unlink()
            raise CorruptObject(sha256)

    def exists(self, sha256: str) -> bool:
        try:
            with _translated():
                self._head(self._key(sha256))
        except FileNotFoundError:
            return False
        return True

    def delete(self, sha256: str, *, unused_for: timedelta = timedelta(0)) -> bool:
        key = self._key(sha256)
        try:
            with _translated():
                if unused_for and datetime.now(UTC) - self._head(key)["LastModified"] < unused_for:
                    return False
                self._head(key)
                self._client.delete_object(Bucket=self.bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    def stage(self, name: str, content: Path) -> None:
        with _translated():
            self._client.upload_file(str(content), self.bucket, self._staged(name))
        content.unlink()

    def join(self, names: Sequence[str], *, sha256: str | None = None) -> tuple[str, int]:
        with _translated():
            if len(names) == 1:
                return self._adopt(self._staged(names[0]), sha256)
            with tempfile.NamedTemporaryFile() as joined:
                sources = (self._read(self._staged(name))["Body"] for name in names)
                found, size = copy(sources, cast(BinaryIO, joined))
                _expect(found, sha256)
                joined.flush()
                self._client.upload_file(joined.name, self.bucket, self._key(found))
            return found, size

    def unstage(self, names: Sequence[str]) -> None:
        with _translated():
            for name in names:
                self._client.delete_object(Bucket=self.bucket, Key=self._staged(name))

    def begin_parts(self, name: str) -> str:
        with _translated():
            begun = self._client.create_multipart_upload(Bucket=self.bucket, Key=self._staged(name))
        return str(begun["UploadId"])

    def part_url(self, name: str, parts_id: str, *, number: int, size_bytes: int, seconds: int) -> str:
        with _translated():
            url: str = self._client.generate_presigned_url(
                "upload_part",
                Params={
                    "Bucket": self.bucket,
                    "Key": self._staged(name),
                    "UploadId": parts_id,
                    "PartNumber": number,
                    # Signed as well: no other number of bytes is taken.
                    "ContentLength": size_bytes,
                },
                ExpiresIn=seconds,
            )
        return url

    def finish_parts(self, name: str, parts_id: str, etags: Sequence[str]) -> int:
        key = self._staged(name)
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        with _translated():
            try:
                self._client.complete_multipart_upload(
                    Bucket=self.bucket, Key=key, UploadId=parts_id, MultipartUpload={"Parts": parts}
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
                    raise ValueError(error.response["Error"]["Message"]) from error
                # They may have been finished already, by a process that never got round to saying so.
                if code != "NoSuchUpload":
                    raise
            return int(self._head(key)["ContentLength"])

    def abort_parts(self, name: str, parts_id: str) -> None:
        try:
            with _translated():
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=self._staged(name), UploadId=parts_id)
        except FileNotFoundError:
            return

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}{checked_name(sha256)[:2]}/{sha256}"

    def _staged(self, name: str) -> str:
        return f"{self._prefix}staged/{checked_staging_name(name)}"

    def _read(self, key: str) -> Any:
        return self._client.get_object(Bucket=self.bucket, Key=key)

    def _head(self, key: str) -> Any:
        return self._client.head_object(Bucket=self.bucket, Key=key)

    def _adopt(self, staged: str, expected: str | None) -> tuple[str, int]:
        """The bytes are read for their hash, and copied where they are: exactly those, or it fails."""
        read = self._read(staged)
        hashed, size = hashlib.sha256(), 0
        while part := read["Body"].read(PART_BYTES):
            hashed.update(part)
            size += len(part)
        found = hashed.hexdigest()
        _expect(found, expected)
        self._client.copy(
            {"Bucket": self.bucket, "Key": staged},
            self.bucket,
            self._key(found),
            ExtraArgs={"CopySourceIfMatch": read["ETag"]},
        )
        return found, size


def _expect(found: str, expected: str | None) -> None:
    if expected not in (None, found):
        raise UnexpectedContent(found)


@contextmanager
def _translated() -> Iterator[None]:
    """boto3's errors as the store's own."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchUpload", "404"):
            raise FileNotFoundError(str(error)) from error
        raise StoreOutOfReach(str(error)) from error
    except BotoCoreError as error:
        raise StoreOutOfReach(str(error)) from error

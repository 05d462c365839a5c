"""What the operator may set, and hears when it makes no sense."""

import pytest
from pydantic import ValidationError

from marketplace.config.environment import Environment


@pytest.mark.parametrize(
    "url", ["", "objects", "/var/objects", "s3://bucket", "s3://bucket/a/b?endpoint_url=http://minio:9000&region=eu"]
)
def test_an_object_store_is_a_folder_or_a_bucket(url: str) -> None:
    assert Environment(object_store_url=url).object_store_url == url


@pytest.mark.parametrize(
    "url",
    ["http://minio:9000/bucket", "file:///objects", "s3:///prefix", "s3://bucket?secret=x", "s3://bucket?a=b&region=c"],
)
def test_anything_else_is_not(url: str) -> None:
    with pytest.raises(ValidationError, match="OBJECT_STORE_URL"):
        Environment(object_store_url=url)

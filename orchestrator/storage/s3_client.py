"""The connection to S3 or what speaks like it: credentials, addressing, the bucket's region."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore import exceptions as boto_errors
from botocore.config import Config

from orchestrator.storage import StoreAccess
from orchestrator.words.credentials import secret_from_env
from orchestrator.words.secret import Secret

_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def checked_credentials() -> list[Secret]:
    """The credentials that boto3 takes from the environment by itself: left there as they may be sent."""
    found = []
    for name in _CREDENTIALS:
        if secret := secret_from_env(name):
            os.environ[name] = secret.reveal()
            found.append(secret)
    return found


def connect(access: StoreAccess, *, virtual: bool = False, **further: Any) -> Any:
    """A client of boto3. `virtual`: at an endpoint of its own, too, the bucket is in the host's name."""
    # Without s3v4 a custom endpoint gets the old signature, which covers no header; virtual-hosted names need DNS.
    # Signed URLs name the bucket's own region: the global host redirects new buckets, and no machine follows.
    by_path = access.endpoint and not virtual
    style = {"addressing_style": "path" if by_path else "virtual", "us_east_1_regional_endpoint": "regional"}
    config = Config(
        signature_version="s3v4",
        s3=style,
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        user_agent_extra="gpuplan",
        ignore_configured_endpoint_urls=True,  # a run's store is the one that was shown: words/store_url.py reads them
        **further,
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=access.region,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key.reveal() if access.secret_key else None,
        aws_session_token=access.session_token.reveal() if access.session_token else None,
        config=config,
    )


def region_of(client: Any, bucket: str) -> str | None:
    """The region that the store names for a bucket, in its refusals too; None: what is wrong shows at the next call."""
    try:
        answer = client.head_bucket(Bucket=bucket)
    except boto_errors.ClientError as error:
        answer = error.response
    except boto_errors.BotoCoreError:
        return None
    region: str | None = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return region

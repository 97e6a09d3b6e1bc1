"""Objects from S3, with obstore. Endpoint and keys are the worker's own settings; a request names the object."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from trainyard_trainer_worker.data.plan import InBucket
from trainyard_trainer_worker.data.ports import Body, TryAgain
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.spec import AttemptError, Detail, dataset_unreachable

if TYPE_CHECKING:
    from obstore.store import S3Store

CHUNK_BYTES: Final = 1 << 20
CONNECT_TIMEOUT_S: Final = 10
MAX_DURATION_S: Final = 24 * 3600
"""obstore's own limit of one whole request is 30 s unless set; the attempt's deadline bounds ours."""


class S3Fetch:
    """Opens objects of one S3. obstore is loaded at the first one (23 MB of library)."""

    def __init__(self, settings: DataSettings) -> None:
        self._settings = settings

    @property
    def endpoint(self) -> str:
        """Which S3 this is, for the cache's keys."""
        return self._settings.s3_endpoint or f"aws:{self._settings.s3_region}"

    @asynccontextmanager
    async def open(self, place: InBucket, validator: str | None = None) -> AsyncIterator[Body | None]:
        """See ports.Opened. Raises AttemptError, TryAgain where trying again may help."""
        self._check_keys(place)
        try:
            import obstore
            from obstore.exceptions import BaseError, NotModifiedError
        except ImportError as problem:
            raise dataset_unreachable(
                Detail.REMOTE_NOT_FETCHED,
                "this worker is installed without obstore and reads no s3:// data; install trainyard-trainer-worker"
                "[remote-data]",
            ) from problem
        try:
            options = {"if_none_match": validator} if validator else {}
            result = await obstore.get_async(self._store(place.bucket), place.key, options=options)  # type: ignore[arg-type]
        except NotModifiedError:
            yield None
            return
        except (BaseError, OSError) as problem:
            raise self._named(problem, place) from None
        tag = result.meta.get("e_tag")

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                    yield bytes(chunk)
            except (BaseError, OSError) as problem:
                raise self._named(problem, place) from None

        yield Body(chunks(), int(result.meta["size"]), tag if tag and not tag.startswith("W/") else None)

    def _check_keys(self, place: InBucket) -> None:
        settings = self._settings
        if settings.s3_anonymous:
            return
        pairs = (("AWS_ACCESS_KEY_ID", settings.s3_access_key), ("AWS_SECRET_ACCESS_KEY", settings.s3_secret_key))
        missing = [name for name, value in pairs if not value.get_secret_value()]
        if missing:
            raise dataset_unreachable(
                Detail.CREDENTIALS_MISSING,
                f"{place.location}: this worker has no keys for S3; set {' and '.join(missing)} for it, or "
                "TRAINYARD_S3_ANONYMOUS=true for public buckets",
            )

    def _store(self, bucket: str) -> S3Store:
        from obstore.store import S3Store

        settings = self._settings
        stall = timedelta(seconds=settings.stall_timeout_s)
        keys = {
            "access_key_id": settings.s3_access_key.get_secret_value(),
            "secret_access_key": settings.s3_secret_key.get_secret_value(),
            "session_token": settings.s3_session_token.get_secret_value(),
        }
        config = {
            "region": settings.s3_region,
            "endpoint": settings.s3_endpoint or f"https://s3.{settings.s3_region}.amazonaws.com",
            "virtual_hosted_style_request": False,  # the bucket must not become a part of the host
            **({"skip_signature": True} if settings.s3_anonymous else {k: v for k, v in keys.items() if v}),
        }
        return S3Store(
            bucket,
            config=config,  # type: ignore[arg-type]
            client_options={
                "allow_http": settings.s3_endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
                "read_timeout": stall,
                "timeout": timedelta(seconds=MAX_DURATION_S),
            },
            retry_config={"max_retries": 2, "retry_timeout": stall},
        )

    def _named(self, problem: Exception, place: InBucket) -> AttemptError:
        """obstore's sentence holds addresses and the server's own text: only its kind is told."""
        from obstore import exceptions

        said, where = str(problem), place.location
        if "NoSuchBucket" in said:
            return dataset_unreachable(
                Detail.BUCKET_MISSING,
                f"{where}: there is no bucket {place.bucket} at {self.endpoint}; check the name and AWS_ENDPOINT_URL",
            )
        if isinstance(problem, FileNotFoundError | exceptions.NotFoundError):
            return dataset_unreachable(Detail.FILE_MISSING, f"{where}: the bucket has no such object; check the key")
        if isinstance(problem, PermissionError | exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return dataset_unreachable(
                Detail.ACCESS_DENIED,
                f"{where}: S3 refuses this worker; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or, with "
                "TRAINYARD_S3_ANONYMOUS, that the bucket is public)",
            )
        return TryAgain(
            Detail.CONNECTION_FAILED,
            f"{where}: S3 at {self.endpoint} gave no usable answer; check AWS_ENDPOINT_URL and AWS_REGION",
        )

"""Google Cloud Storage by way of gcsfs: its errors in words, and small uploads without its flaw.

gcsfs frames a small upload with bare line feeds and one boundary for all. A server then takes a
last byte of 13 for half a line break (gcp-storage-emulator loses it, and RFC 2046 lets it), so one
file in 256 would never arrive whole.
"""

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
from gcsfs.retry import ChecksumError, HttpError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError

from phenopipe.errors import InputError


def send(
    gcs: Any,
    path: str,
    content: bytes,
    *,
    metadata: Mapping[str, str] | None = None,
    create: bool = False,
) -> None:
    """Put a small object in one request; the server checks the content's MD5.

    Parameters
    ----------
    gcs
        A ``gcsfs.core.GCSFileSystem``.
    path
        ``bucket/key``.
    metadata
        The object's own.
    create
        Only where there is none yet.

    Raises
    ------
    FileExistsError
        If there is one, and `create` was asked for.
    """
    bucket, key = path.split("/", 1)
    md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    described = json.dumps({"name": key, "metadata": dict(metadata or {}), "md5Hash": md5})
    boundary = uuid.uuid4().hex
    start = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{described}\r\n"
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    gcs.call(
        "POST",
        f"{gcs.base.replace('/storage/v1/', '/upload/storage/v1/')}b/{{}}/o",
        bucket,
        uploadType="multipart",
        headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
        data=start.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
        **({"ifGenerationMatch": "0"} if create else {}),
    )


@contextmanager
def in_words(where: str) -> Iterator[None]:
    """Turn what gcsfs and its libraries raise into the lake's errors.

    Raises
    ------
    InputError
        If credentials are missing or not good for this, in words.
    FileNotFoundError, FileExistsError
        If there is no such object; if a condition does not hold (HTTP 412).
    OSError
        If anything else goes wrong: it may pass.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except (DefaultCredentialsError, RefreshError) as error:
        raise _refused(where, error) from error
    except HttpError as error:
        if error.code in {401, 403}:
            raise _refused(where, error) from error
        raise OSError(f"{where}: HTTP {error.code} {_shorten(error)}") from error
    except (GoogleAuthError, aiohttp.ClientError, ChecksumError) as error:
        raise OSError(f"{where}: {type(error).__name__} {error}") from error
    except TimeoutError as error:
        raise TimeoutError(f"{where}: no answer in time") from error
    except OSError as error:
        # So gcsfs raises HTTP 403.
        if str(error).startswith("Forbidden"):
            raise _refused(where, error) from error
        raise


def _refused(where: str, error: Exception) -> InputError:
    return InputError(
        f"expected to be let in to {where}, found {_shorten(error)}: run "
        "`gcloud auth application-default login`, or have GOOGLE_APPLICATION_CREDENTIALS name a "
        "key that may read and write there"
    )


def _shorten(error: Exception) -> str:
    """Give the first words of what a server said, maybe as a page of HTML."""
    return " ".join(str(error).split())[:200]

"""A lock on object storage: an object that one writer makes, renews and deletes.

The object's *generation* is the lock: it is made only where there is none, and renewed and deleted
only while it is this one, so no two writers can hold it. Its holder renews it four times in the
time for which it is good. Who finds that it was not renewed for that long takes it over: the holder
was killed, or cut off. Both times are the server's, so nobody's clock has to be right.
"""

import json
import logging
import os
import platform
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from phenopipe.errors import InputError
from phenopipe.lake.gcs import in_words, send

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _State:
    """What the object said of itself, and whether it is good for longer."""

    owner: str
    generation: str
    metageneration: str
    expired: bool


class Lease:
    """A lease on one object, not yet taken.

    Parameters
    ----------
    gcs
        A ``gcsfs.core.GCSFileSystem``.
    path
        The object's: ``bucket/key``.
    good_for_s
        Seconds from a renewal after which others may take it over.
    """

    def __init__(self, gcs: Any, path: str, *, good_for_s: float) -> None:
        self._gcs = gcs
        self._path = path
        self._place = tuple(path.split("/", 1))
        self._good_for_s = good_for_s
        self._owner = f"{platform.node()} {os.getpid()} {uuid.uuid4().hex}"
        self._generation = ""
        self._ended = threading.Event()

    def take(self, *, wait: bool = False) -> bool:
        """Take the lease, and renew it from now on; tell whether it is ours.

        Where another holds it, see whether that one lives: it is ours if not. This takes a quarter
        of the time for which it is good, or all of it.

        Parameters
        ----------
        wait
            Wait until the other is done.

        Raises
        ------
        OSError
            If the storage does not answer.
        """
        seen = None
        while True:
            self._create()
            state = self._look()
            if state is not None and state.owner == self._owner:
                self._generation = state.generation
                threading.Thread(target=self._renew_on, name=self._path, daemon=True).start()
                return True
            if state is not None and state.expired:
                # Only as it was seen: a holder that has come back meanwhile keeps it.
                self._delete(state.generation, ifMetagenerationMatch=state.metageneration)
            elif state is not None:
                if seen not in {None, state} and not wait:
                    return False
                seen = state
                time.sleep(self._good_for_s / 16)

    def is_free(self) -> bool:
        """Tell whether nobody holds the lease."""
        state = self._look()
        return state is None or state.expired

    def confirm(self) -> None:
        """Renew the lease now.

        Raises
        ------
        OSError
            If another writer has taken it over, or the storage does not answer.
        """
        if not self._renew():
            raise OSError(
                f"expected to hold {self._path} until the end, found that another run took it over "
                f"after {self._good_for_s:g} s without a sign of this one: start again"
            )

    def release(self) -> None:
        """Give the lease back; where that fails, it ends by itself."""
        self._ended.set()
        try:
            self._delete(self._generation)
        except (OSError, InputError) as error:
            _log.warning("%s ends by itself in %g s: %s", self._path, self._good_for_s, error)

    def _create(self) -> None:
        try:
            with in_words(self._path):
                # It may be there already: ours too, if the answer to making it was lost.
                send(self._gcs, self._path, b"", metadata=self._metadata(), create=True)
        except FileExistsError:
            pass

    def _look(self) -> _State | None:
        try:
            with in_words(self._path):
                headers, content = self._gcs.call("GET", "b/{}/o/{}", *self._place)
        except FileNotFoundError:
            return None
        found = json.loads(content)
        age = parsedate_to_datetime(headers["Date"]) - datetime.fromisoformat(found["updated"])
        told = found.get("metadata", {})
        good_for_s = float(told.get("good_for_s", self._good_for_s))
        return _State(
            owner=told.get("owner", ""),
            generation=found["generation"],
            metageneration=found["metageneration"],
            expired=age.total_seconds() > good_for_s,
        )

    def _metadata(self) -> dict[str, str]:
        renewed = datetime.now(UTC).isoformat()
        return {"owner": self._owner, "good_for_s": str(self._good_for_s), "renewed": renewed}

    def _renew(self) -> bool:
        try:
            with in_words(self._path):
                self._gcs.call(
                    "PATCH",
                    "b/{}/o/{}",
                    *self._place,
                    ifGenerationMatch=self._generation,
                    json={"metadata": self._metadata()},
                    timeout=self._good_for_s,
                )
        except (FileNotFoundError, FileExistsError):
            return False
        return True

    def _renew_on(self) -> None:
        while not self._ended.wait(self._good_for_s / 4):
            try:
                if not self._renew():
                    _log.warning("%s was taken over by another run", self._path)
                    return
            except Exception as error:  # noqa: BLE001, it may go better next time; see confirm
                _log.warning("%s was not renewed: %s", self._path, error)

    def _delete(self, generation: str, **conditions: str) -> None:
        try:
            with in_words(self._path):
                self._gcs.call(
                    "DELETE",
                    "b/{}/o/{}",
                    *self._place,
                    ifGenerationMatch=generation,
                    **conditions,
                )
        except (FileNotFoundError, FileExistsError):
            pass

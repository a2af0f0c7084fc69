"""gcp-storage-emulator with what it lacks of Google Cloud Storage, and with faults on request.

It knows no conditions (``ifGenerationMatch``), does not tell when an object was patched, cannot
cancel an upload, and writes all its metadata to disk at each request.
"""

import io
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler, Router
from gcp_storage_emulator.storage import Storage


class ConditionNotMetError(Exception):
    """HTTP 412."""


class ConditionalStorage(Storage):
    """Objects that are made, read and deleted under the conditions of the request at hand."""

    conditions: dict[str, list[str]]

    def __init__(self):
        super().__init__(use_memory_fs=True)
        self.conditions = {}

    def _write_config_to_file(self):
        pass

    def _bucket_soft_delete_retention_seconds(self, bucket_name):  # noqa: ARG002
        return 0

    def _check(self, bucket_name, file_name):
        found = self.objects.get(bucket_name, {}).get(file_name, {})
        for name in ("generation", "metageneration"):
            (wanted,) = self.conditions.get(f"if{name.title()}Match", [None])
            if wanted not in {None, found.get(name, "0")}:
                raise NotFound if not found and wanted != "0" else ConditionNotMetError

    def create_file(self, bucket_name, file_name, content, file_obj, file_id=None):
        self._check(bucket_name, file_name)
        super().create_file(bucket_name, file_name, content, file_obj, file_id)

    def delete_file(self, bucket_name, file_name):
        self._check(bucket_name, file_name)
        super().delete_file(bucket_name, file_name)

    def get_file_obj(self, bucket_name, file_name):
        self._check(bucket_name, file_name)
        return super().get_file_obj(bucket_name, file_name)

    def patch_object(self, bucket_name, file_name, file_obj):
        file_obj["updated"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        super().patch_object(bucket_name, file_name, file_obj)


@dataclass
class Fault:
    """What befalls the next requests of a method whose path or body holds a text.

    A number such as ``503``: refused so. ``torn``: the connection is closed when half the body has
    come. ``unanswered``: closed when the request was carried out. ``half``: closed after half the
    answer. ``slow``: answered late.
    """

    kind: str
    method: str
    path: str
    times: int = 1
    seconds: float = 0.0


@dataclass
class Emulator:
    """A running emulator: where it listens, what it was asked, what is to go wrong."""

    storage: ConditionalStorage = field(default_factory=ConditionalStorage)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self):
        create_bucket("lake", self.storage)
        emulator = self

        class Handler(FaultyHandler):
            def __init__(self, *connection):
                super().__init__(emulator, *connection)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, method, path):
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None

    def count(self):
        """Count the requests since it was asked last, by method."""
        with self.lock:
            counted = Counter(method for method, _ in self.requests)
            self.requests.clear()
        return counted


def _answering(method):
    return lambda handler: handler.answer(method)


class FaultyHandler(RequestHandler):
    """Carries out one request, unless a fault befalls it."""

    do_GET, do_POST, do_PUT, do_PATCH, do_DELETE = map(  # noqa: N815
        _answering, ("GET", "POST", "PUT", "PATCH", "DELETE")
    )

    def __init__(self, emulator, *connection):
        self.emulator = emulator
        super().__init__(emulator.storage, *connection)

    def answer(self, method):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(length, 4096))
        fault = self.emulator.next_fault(method, unquote(self.path) + body.decode("latin-1"))
        kind = fault.kind if fault else ""
        if kind == "torn":
            self.rfile.read((length - len(body)) // 2)
            return self.connection.close()
        self.rfile = io.BytesIO(body + self.rfile.read(length - len(body)))
        if kind == "slow":
            time.sleep(fault.seconds)
        if kind.isdigit():
            return self.send_error(int(kind))
        if method == "DELETE" and "upload_id" in self.path:
            return self.send_error(499)
        answer = self._carry_out(method)
        if kind == "unanswered":
            return self.connection.close()
        return self.wfile.write(answer[: len(answer) // 2] if kind == "half" else answer)

    def _carry_out(self, method):
        storage, connection = self.emulator.storage, self.wfile
        self.wfile = io.BytesIO()
        with self.emulator.lock:
            storage.conditions = parse_qs(urlparse(self.path).query)
            try:
                Router(self).handle(method)
            except ConditionNotMetError:
                self.send_error(412)
            storage.conditions = {}
        answer, self.wfile = self.wfile.getvalue(), connection
        return answer

    def log_message(self, *_):
        pass

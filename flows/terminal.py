"""A flow that is started from the shell: its bars, and how it ended."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings
from rich.console import Console

from tasks.progress import progress_bars


@contextmanager
def shown_in_terminal() -> Iterator[Console]:
    """Show a bar for each stage of the flow that runs inside; yields the bars' console."""
    # The bars have the terminal; the server keeps the whole log.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    # Importing and migrating the server takes over the default 20 s on a busy machine.
    with (
        temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180}),
        progress_bars() as bars,
    ):
        yield bars.console

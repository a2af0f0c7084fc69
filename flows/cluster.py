"""The cluster of a run: where the run is told to end, what embeds there publishes first."""

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client
from prefect.exceptions import TerminationSignal

from phenopipe import compute
from phenopipe.embed import end_all

# A spot node of GKE gives a pod 15 s; the run must be handed back in them too.
_PUBLISH_S = 10.0


@contextmanager
def open_cluster(kind: str) -> Iterator[Client]:
    """Start or join a cluster, as :func:`phenopipe.compute.client` does, for a run's tasks.

    Prefect raises SIGTERM in a run's main thread, and stages run in others: so they are told here,
    while their workers are alive.
    """
    with compute.client(kind) as client:
        try:
            yield client
        except TerminationSignal:
            end_all(within_s=_PUBLISH_S)
            raise

"""The engine: gives a plate's fields to workers, and outlives the loss of any of them.

Workers embed stretches of fields and publish each as a piece, so that nothing is lost but what a
worker had in hand. Where a worker dies, the fields that it had are tried again when all others are
done, one alone on a worker: a field that then takes its worker with it twice is given up and named.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from distributed import Client, Future, wait

from phenopipe.compute import is_killed, result_of, submit
from phenopipe.embed.drain import Drain
from phenopipe.embed.duty import end_early, prepare_workers
from phenopipe.embed.pieces import Piece, clear_pieces, find_pieces
from phenopipe.embed.roll import Roll
from phenopipe.embed.worker import Job, Stretch, embed_stretch
from phenopipe.errors import InputError
from phenopipe.plates import FieldKey

_log = logging.getLogger(__name__)

# Fields a stretch, at most: bounds a worker's memory, and what is tried again one by one.
_LONGEST = 64
_TRIES = 2
# More fields than this on a plate do not kill their workers; something else does.
_MOST_SKIPPED = 8
# A signal goes unheard for so long; each look costs some milliseconds.
_LOOK_EVERY_S = 1.0


class Engine:
    """Embeds the fields of a plate that its roll has left.

    Parameters
    ----------
    roll
        Where pieces and fields that are given up are entered.
    drain
        Tells when to stop giving out work.
    """

    def __init__(self, client: Client, job: Job, roll: Roll, *, drain: Drain) -> None:
        self._client, self._job, self._roll, self._drain = client, job, roll, drain
        self._runs = deque(roll.left())
        self._suspects: deque[FieldKey] = deque()
        self._deaths: Counter[FieldKey] = Counter()
        self._in_hand: dict[Future[Any], tuple[FieldKey, ...]] = {}
        self._alone: set[Future[Any]] = set()
        self._published: list[Piece] = []
        self._stopping = False

    def run(self, on_settled: Callable[[], None]) -> None:
        """Embed until every field is in a piece or given up; or, drained, until hands are empty.

        Parameters
        ----------
        on_settled
            Called whenever the roll has changed.

        Raises
        ------
        InputError
            If a worker's input is at fault, or workers die of more than a few fields. The pieces
            of this run are removed.
        OSError
            If reading or publishing fails.
        """
        if self._runs:
            prepare_workers(self._client)
        try:
            while self._runs or self._suspects or self._in_hand:
                if self._drain.is_asked() and not self._stop():
                    return
                self._give_out()
                for future in self._wait():
                    self._settle(future)
                on_settled()
        except InputError:
            self._withdraw()
            raise

    def _stop(self) -> bool:
        """Have the workers publish what they have in hand; tells whether any has."""
        self._runs.clear()
        self._suspects.clear()
        if not self._stopping:
            self._stopping = True
            self._end_early(keep=True)
        return bool(self._in_hand)

    def _withdraw(self) -> None:
        """Remove what this run has published, and what its workers were publishing just now."""
        self._end_early(keep=False)
        with self._client.as_current(), suppress(TimeoutError):
            wait(list(self._in_hand), timeout=self._job.patience_s)
        ended = [future.result() for future in self._in_hand if future.status == "finished"]
        late = [one.piece for one in ended if isinstance(one, Stretch) and one.piece]
        clear_pieces(self._job.lake, [piece.thing for piece in [*self._published, *late]])

    def _end_early(self, *, keep: bool) -> None:
        try:
            self._client.run(end_early, self._job.run, keep, on_error="ignore", callback_timeout=10)
        except (OSError, TimeoutError):
            _log.warning("a worker does not answer: it is left to itself")

    def _give_out(self) -> None:
        workers = self._client.nthreads()
        most = 2 * max(1, sum(workers.values()))
        while self._runs and len(self._in_hand) < most:
            self._submit(self._cut(parts=most))
        if self._runs or len(self._in_hand) > len(self._alone):
            return
        # Dask gives each to a worker that has nothing to do. None is bound to one: it would wait
        # for ever for a worker that dies before it comes.
        while self._suspects and len(self._in_hand) < len(workers):
            self._alone.add(self._submit([self._suspects.popleft()]))

    def _cut(self, *, parts: int) -> list[FieldKey]:
        """Cut the next stretch: shorter ones to the end, so that all workers end together.

        References
        ----------
        Polychronopoulos & Kuck (1987), Guided self-scheduling.
        """
        length = sum(map(len, self._runs)) // parts
        run = self._runs.popleft()
        length = min(max(length, 1), _LONGEST, len(run))
        if run[length:]:
            self._runs.appendleft(run[length:])
        return run[:length]

    def _submit(self, fields: Sequence[FieldKey]) -> Future[Any]:
        future = submit(self._client, embed_stretch, fields, job=self._job)
        self._in_hand[future] = tuple(fields)
        return future

    def _wait(self) -> list[Future[Any]]:
        """Wait for work to be done, and not so long that a signal goes unheard."""
        if not self._in_hand:
            time.sleep(_LOOK_EVERY_S)
            return []
        try:
            # Several plates may be at work in this process, each with a client of its own.
            with self._client.as_current():
                wait(list(self._in_hand), timeout=_LOOK_EVERY_S, return_when="FIRST_COMPLETED")
        except TimeoutError:
            return []
        return [future for future in self._in_hand if future.done()]

    def _settle(self, future: Future[Any]) -> None:
        fields = self._in_hand.pop(future)
        alone = future in self._alone
        self._alone.discard(future)
        if is_killed(future):
            self._suspect(fields, alone=alone)
            return
        stretch: Stretch = result_of(future)
        if stretch.piece and self._roll.take(stretch.piece):
            self._published.append(stretch.piece)
        if stretch.fault:
            _log.warning("%s: %s: the worker is replaced", self._job.image, stretch.fault)
            self._client.restart_workers([stretch.worker], raise_for_error=False)
            self._suspect(stretch.left, alone=alone, why=stretch.fault)
        elif stretch.left and not self._drain.is_asked():
            self._runs.appendleft(list(stretch.left))

    def _suspect(self, fields: Sequence[FieldKey], *, alone: bool, why: str = "") -> None:
        """Try fields whose worker was lost again, but for those it had published."""
        for piece in find_pieces(self._job.lake, self._job.table, self._job.recipe)[0]:
            if set(piece.fields) <= set(fields) and self._roll.take(piece):
                self._published.append(piece)
        lost = [field for field in fields if not self._roll.is_settled(field)]
        for field in lost:
            self._deaths[field] += alone
            if self._deaths[field] >= _TRIES:
                self._give_up(field, why)
            elif not self._drain.is_asked():
                self._suspects.append(field)

    def _give_up(self, field: FieldKey, why: str) -> None:
        patience = f"its worker died twice, or took longer than {self._job.patience_s:g} s over it"
        self._roll.skip(field, why or patience)
        _log.warning("%s %s: left out: %s", self._job.image, field, why or patience)
        if len(self._roll.skipped) > _MOST_SKIPPED:
            named = ", ".join(map(str, self._roll.skipped))
            raise InputError(
                f"expected workers to live through the fields of {self._job.image}, found "
                f"{len(self._roll.skipped)} that they died of ({named}): give workers more memory "
                "or time (embed.patience_s), or choose another model"
            )

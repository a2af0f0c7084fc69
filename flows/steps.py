"""How each stage of a run ended, and what all of them say together."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Self

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict

from tasks.artifacts import plain_row
from tasks.telling import tell

Outcome = Literal["done", "skipped", "failed"]

_OUTCOMES: dict[str | None, Outcome] = {"Completed": "done", "Cached": "skipped"}
# What wants a person stands first.
_ORDER: tuple[Outcome, ...] = ("failed", "done", "skipped")
# In a state's message; the table names them all.
_MOST_NAMED = 10
# A table travels as one JSON document, which a browser draws row by row.
MOST_ROWS = 2000


class Step(BaseModel):
    """One stage of one plate, batch or map, and how it ended: a row of a run's table.

    ``skipped`` is what was published as asked for before the run.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    item: str
    outcome: Outcome
    message: str
    run: str = ""

    @classmethod
    def of(cls, stage: str, item: str, state: State[Any]) -> Self:
        """Read the outcome from the state that a task or flow ended in."""
        outcome = _OUTCOMES.get(state.name, "failed")
        return cls(stage=stage, item=item, outcome=outcome, message=state.message or "")


def conclude(steps: Sequence[Step], *, key: str) -> State[Any]:
    """End a run: the table ``key`` of its steps, and the state that they add up to.

    Returns
    -------
    State
        ``Failed`` with the first reasons where a step failed; ``Cached`` where all were skipped.
    """
    counts = Counter(step.outcome for step in steps)
    counted = ", ".join(f"{counts[one]:,} {one}" for one in _ORDER if counts[one])
    told = f"{len(steps):,} in all: {counted or 'nothing to do'}"
    unused = set() if any(step.run for step in steps) else {"run"}
    ordered = sorted(steps, key=lambda step: _ORDER.index(step.outcome))
    rows = [step.model_dump(exclude=unused) for step in ordered]
    show_table(rows, key=key, description=told)
    failed = [step for step in steps if step.outcome == "failed"]
    if failed:
        return Failed(message=f"{told}. {_name_some(failed)}")
    if counts["skipped"] == len(steps):
        return Completed(name="Cached", message=f"{told}: all was published already.")
    return Completed(message=told)


def show_table(rows: Sequence[dict[str, Any]], *, key: str, description: str) -> None:
    """Publish a table artifact; of a very long one, the first rows, and say so."""
    if len(rows) > MOST_ROWS:
        description += f" (the first {MOST_ROWS:,} of {len(rows):,} rows)"
    with tell(f"the table {key}"):
        shown = [plain_row(row) for row in rows[:MOST_ROWS]]
        create_table_artifact(shown, key=key, description=description)


def _name_some(failed: Sequence[Step]) -> str:
    named = "; ".join(f"{one.stage} {one.item}: {one.message}" for one in failed[:_MOST_NAMED])
    more = len(failed) - _MOST_NAMED
    return f"{named}; and {more:,} more" if more > 0 else named

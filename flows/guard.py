"""What holds for every flow: bad input ends in one sentence, and no run is rerun without end."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from phenopipe.errors import InputError

# An automation schedules crashed runs anew; a run that takes its machine with it each time would
# come back for ever.
MOST_RUNS = 5

Asked = ParamSpec("Asked")


def guarded(run: Callable[Asked, State[Any]]) -> Callable[Asked, State[Any]]:
    """Let a flow end ``Failed``, in one sentence, on bad input and after too many crashes."""

    @wraps(run)
    def guard(*args: Asked.args, **kwargs: Asked.kwargs) -> State[Any]:
        times = flow_run.run_count or 0
        if times > MOST_RUNS:
            return Failed(
                message=f"Started {times} times, and never came to its end: look at the logs of "
                "the machine that it ran on, then start a new run. What it published is kept."
            )
        try:
            return run(*args, **kwargs)
        except InputError as error:
            return Failed(message=str(error))

    return guard

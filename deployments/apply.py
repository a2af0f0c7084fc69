"""Make on a Prefect server what the deployments need; run again, bring it up to date.

``python -m deployments.apply`` makes work pools with their queues, variables, concurrency limits
and automations from the files beside it. What a site sets (variables, limits, which automations are
on) is made once and never changed again; all else follows the files.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import typer
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    VariableCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.events.actions import DoNothing, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from phenopipe.errors import InputError

HERE = Path(__file__).parent

# A piece of one of the files beside this module.
Spec: TypeAlias = Mapping[str, Any]

# A server migrates its database as it first starts.
_SERVER_STARTS_WITHIN_S = 90

_NOTIFY = "phenopipe_notify"
_OFF = f"Off, for the variable {_NOTIFY} names no notification block."


def apply(client: SyncPrefectClient, given: Mapping[str, str]) -> Iterator[str]:
    """Make what is missing and update what differs, one thing after another.

    Parameters
    ----------
    client
        Of the server.
    given
        Values for variables that are not there yet, by option: ``root``, ``landing``,
        ``annotations``, ``timezone``, ``notify``. Empty: not given.

    Yields
    ------
    str
        What was done, a sentence a thing; nothing for what was right already.

    Raises
    ------
    InputError
        If a variable is needed and neither there nor given, or names what does not exist.
    """
    server = read_yaml("server.yaml")
    yield from _apply_variables(client, server["variables"], given)
    for name, pool in server["pools"].items():
        yield from _apply_pool(client, name, pool)
        for queue, spec in server["queues"].items():
            limit = pool["queue_limits"].get(queue)
            yield from _apply_queue(client, name, queue, spec, limit=limit)
    for name, slots in server["limits"].items():
        yield from _apply_limit(client, name, slots)
    block = find_block(client)
    for spec in read_yaml("automations.yaml"):
        yield from _apply_automation(client, spec, block)


def read_yaml(name: str) -> Any:
    """Read one of the files beside this module."""
    return yaml.safe_load((HERE / name).read_text("utf-8"))


def read_template(name: str) -> dict[str, Any]:
    """Read a work pool's base job template."""
    template: dict[str, Any] = json.loads((HERE / "pools" / name).read_text("utf-8"))
    return template


def _apply_variables(
    client: SyncPrefectClient, variables: Spec, given: Mapping[str, str]
) -> Iterator[str]:
    for name, spec in variables.items():
        found = client.read_variable_by_name(name)
        asked = given.get(spec.get("option", ""), "")
        if found is None:
            value = asked or spec.get("value")
            if value is None:
                raise InputError(
                    f"the server has no variable {name}, and none was given: give "
                    f"--{spec['option']} or set {name.upper()}"
                )
            client.create_variable(VariableCreate(name=name, value=value))
            yield f"variable {name}: made, {value!r}"
        elif asked and asked != found.value:
            yield (
                f"variable {name}: kept, {found.value!r}. For {asked!r}: prefect variable set "
                f"--overwrite {name} {asked}; then deploy again"
            )


def _apply_pool(client: SyncPrefectClient, name: str, spec: Spec) -> Iterator[str]:
    template = read_template(spec["template"])
    wanted = {"description": spec["description"], "base_job_template": template}
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=spec["type"], **wanted))
        yield f"work pool {name}: made"
        return
    if found.type != spec["type"]:
        raise InputError(
            f"work pool {name} is of type {found.type}, expected {spec['type']}, and a pool's type "
            "cannot be changed: delete it in the UI and run this again"
        )
    if {field: getattr(found, field) for field in wanted} != wanted:
        client.update_work_pool(name, WorkPoolUpdate(**wanted))
        yield f"work pool {name}: updated"


def _apply_queue(
    client: SyncPrefectClient, pool: str, name: str, spec: Spec, *, limit: int | None
) -> Iterator[str]:
    wanted = {"description": spec["description"], "priority": spec["priority"]}
    try:
        found = client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        client.create_work_queue(name, work_pool_name=pool, concurrency_limit=limit, **wanted)
        yield f"work queue {pool}/{name}: made"
        return
    if {field: getattr(found, field) for field in wanted} != wanted:
        client.update_work_queue(found.id, **wanted)
        yield f"work queue {pool}/{name}: updated"


def _apply_limit(client: SyncPrefectClient, name: str, slots: int) -> Iterator[str]:
    try:
        client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=slots, active=True)
        )
        yield f"concurrency limit {name}: made, {slots} slots"


def find_block(client: SyncPrefectClient) -> UUID | None:
    """Find the notification block that the variable ``phenopipe_notify`` names, if it names one.

    Raises
    ------
    InputError
        If there is no such block.
    """
    variable = client.read_variable_by_name(_NOTIFY)
    if variable is None or not variable.value:
        return None
    kind, _, name = str(variable.value).partition("/")
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound:
        raise InputError(
            f"the variable {_NOTIFY} says {variable.value!r}, expected type/name of a notification "
            "block on the server, such as slack-webhook/lab-ops: make the block in the UI, under "
            "Blocks, or correct the variable"
        ) from None


def describe_automation(spec: Spec, block: UUID | None) -> AutomationCore:
    """Describe an automation to the server; an alert without a block is switched off, and says so.

    Parameters
    ----------
    spec
        One of ``automations.yaml``: Prefect's own fields; an alert has ``notify`` for ``actions``.
    block
        The notification block.
    """
    fields = {field: value for field, value in spec.items() if field != "notify"}
    if notify := spec.get("notify"):
        if block is None:
            off = {"actions": [DoNothing()], "enabled": False}
            fields |= off | {"description": f"{spec['description']} {_OFF}"}
        else:
            fields |= {"actions": [SendNotification(block_document_id=block, **notify)]}
    return AutomationCore.model_validate({"enabled": True, **fields})


def _apply_automation(client: SyncPrefectClient, spec: Spec, block: UUID | None) -> Iterator[str]:
    name, wanted = spec["name"], describe_automation(spec, block)
    # By hand they may have been made twice: a name is no key to Prefect.
    same_name = client.read_automations_by_name(name)
    if len(same_name) > 1:
        raise InputError(
            f"the server has {len(same_name)} automations named {name}, expected one: delete all "
            "but one in the UI and run this again"
        )
    if not same_name:
        client.create_automation(wanted)
        yield f"automation {name}: made{'' if wanted.enabled else '. ' + _OFF}"
        return
    (found,) = same_name
    standing = AutomationCore.model_validate(found.model_dump(exclude={"id"}))
    if _notifies(standing) == _notifies(wanted):
        wanted.enabled = standing.enabled
    if standing.model_dump() != wanted.model_dump():
        client.update_automation(found.id, wanted)
        yield f"automation {name}: updated"


def _notifies(automation: AutomationCore) -> bool:
    return any(isinstance(action, SendNotification) for action in automation.actions)


def main(
    root: Annotated[
        str, typer.Option(envvar="PHENOPIPE_ROOT", help="The lake: a folder or gs://bucket/prefix.")
    ] = "",
    landing: Annotated[
        str, typer.Option(envvar="PHENOPIPE_LANDING", help="Where microscopes deliver plates.")
    ] = "",
    annotations: Annotated[
        str,
        typer.Option(
            envvar="PHENOPIPE_ANNOTATIONS", help="A folder of known relationships, to score maps."
        ),
    ] = "",
    timezone: Annotated[
        str,
        typer.Option(envvar="PHENOPIPE_TIMEZONE", help="Of the schedules, such as Europe/London."),
    ] = "",
    notify: Annotated[
        str,
        typer.Option(
            envvar="PHENOPIPE_NOTIFY",
            help="Who is told: a notification block as type/name, such as slack-webhook/lab-ops.",
        ),
    ] = "",
) -> None:
    """Make pools, queues, variables, limits and automations on the server at PREFECT_API_URL.

    What is there is brought up to date; variables, limits, and which automations are on stay.
    """
    try:
        given = {
            "root": _find_place(root),
            "landing": _find_place(landing),
            "annotations": _find_place(annotations),
            "timezone": _check_timezone(timezone),
            "notify": notify,
        }
        _apply_to_server(given)
    except InputError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def _find_place(place: str) -> str:
    """Make a folder absolute: runs start elsewhere."""
    if not place or "://" in place:
        return place
    return str(Path(place).expanduser().absolute())


def _check_timezone(name: str) -> str:
    try:
        return str(ZoneInfo(name)) if name else name
    except (KeyError, ValueError, OSError):
        raise InputError(
            f"expected a time zone of the IANA database, such as Europe/London, found {name!r}"
        ) from None


def _apply_to_server(given: Mapping[str, str]) -> None:
    if not PREFECT_API_URL.value():
        raise InputError(
            "no server is named: set PREFECT_API_URL, such as http://127.0.0.1:4200/api"
        )
    with get_client(sync_client=True) as client:
        _await(client)
        try:
            _tell(apply(client, given))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.UNAUTHORIZED:
                raise
            raise InputError(
                f"the server at {client.api_url} asks for another password: set "
                "PREFECT_API_AUTH_STRING to the server's user:password"
            ) from None


def _await(client: SyncPrefectClient) -> None:
    """Wait until the server answers: it may have been started a moment ago."""
    deadline = time.monotonic() + _SERVER_STARTS_WITHIN_S
    while problem := client.api_healthcheck():
        if time.monotonic() > deadline:
            raise InputError(
                f"no Prefect server answered at {client.api_url} within {_SERVER_STARTS_WITHIN_S} "
                f"s ({problem}): start one, or correct PREFECT_API_URL"
            )
        time.sleep(1)


def _tell(done: Iterable[str]) -> None:
    count = 0
    for count, sentence in enumerate(done, start=1):  # noqa: B007 - counted to the end
        typer.echo(sentence)
    if not count:
        typer.echo("All is as it should be.")


if __name__ == "__main__":
    typer.run(main)

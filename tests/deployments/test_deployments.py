"""``prefect deploy --all`` against a fresh server: what stands there afterwards."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from prefect.server.schemas.schedules import CronSchedule
from prefect.utilities.schema_tools import is_valid_schema
from prefect.utilities.schema_tools import validate as validate_against

PLACES = ("cpu", "gpu-onprem", "gpu-cloud")

# Each deployment, with its work pool and queue.
EXPECTED = {
    "nightly/nightly": ("cpu", "nightly"),
    "ingest-landing/ingest": ("cpu", "nightly"),
    "plates/cpu": ("cpu", "backfill"),
    "plates/gpu-onprem": ("gpu-onprem", "backfill"),
    "plates/gpu-cloud": ("gpu-cloud", "backfill"),
    "embed/embed": ("cpu", "default"),
    "map/map": ("cpu", "default"),
    "benchmark/benchmark": ("cpu", "default"),
    "backfill/backfill": ("cpu", "default"),
    "maintain/maintain": ("cpu", "default"),
    "transfer/transfer": ("cpu", "default"),
    "screen-to-map/screen-to-map": ("cpu", "default"),
    "report-status/status": ("cpu", "default"),
}


def test_all_is_deployed_each_to_its_pool_and_queue(client):
    flows = {flow.id: flow.name for flow in client.read_flows()}
    found = {
        f"{flows[one.flow_id]}/{one.name}": (one.work_pool_name, one.work_queue_name)
        for one in client.read_deployments()
    }
    assert found == EXPECTED


def test_nothing_is_left_unsaid_or_skipped(deployed):
    told = deployed.lower()
    assert not [word for word in ("skipping", "not found", "error", "warning") if word in told]


def test_the_variables_are_the_deployments_defaults(client):
    parameters = client.read_deployment_by_name("nightly/nightly").parameters
    assert parameters == {
        "root": "gs://lab/lake",
        "source": "/data/landing",
        "annotations": "",
        "map_name": "nightly",
        "where": "here",
    }


def test_parameters_fit_their_flows_forms(client):
    for one in client.read_deployments():
        schema = one.parameter_openapi_schema
        assert one.enforce_parameter_schema, one.name
        assert is_valid_schema(schema) is None
        told = validate_against(one.parameters, schema, raise_on_error=False, ignore_required=True)
        assert told == [], one.name
        unknown = set(one.parameters) - set(schema["properties"])
        assert not unknown, one.name


def test_the_night_begins_at_half_past_one_by_the_labs_clock_winter_and_summer(client):
    (schedule,) = client.read_deployment_by_name("nightly/nightly").schedules
    assert schedule.active
    cron = CronSchedule.model_validate(schedule.schedule.model_dump())
    london = ZoneInfo("Europe/London")
    for day in (datetime(2026, 1, 15, 12, tzinfo=UTC), datetime(2026, 7, 15, 12, tzinfo=UTC)):
        (night,) = cron._get_dates_generator(n=1, start=day)
        assert night.astimezone(london).strftime("%H:%M") == "01:30"


def test_every_schedule_is_in_the_labs_time(client):
    scheduled = {one.name: one.schedules for one in client.read_deployments() if one.schedules}
    assert set(scheduled) == {"nightly", "maintain", "status"}
    assert {one.schedule.timezone for (one,) in scheduled.values()} == {"Europe/London"}


def test_two_nights_never_run_at_a_time_and_none_is_dropped(client):
    nightly = client.read_deployment_by_name("nightly/nightly")
    assert nightly.global_concurrency_limit.limit == 1
    assert nightly.concurrency_options.collision_strategy == "ENQUEUE"


def test_parents_never_wait_in_the_queue_that_they_fill(client):
    filled = {client.read_deployment_by_name(f"plates/{pool}").work_queue_name for pool in PLACES}
    assert filled == {"backfill"}
    for parent in ("backfill/backfill", "embed/embed", "nightly/nightly"):
        assert client.read_deployment_by_name(parent).work_queue_name not in filled


def test_runs_that_may_be_repeated_are_tagged_for_it(client):
    tagged = {one.name for one in client.read_deployments() if "autorerun" in one.tags}
    assert tagged == {one.rpartition("/")[2] for one in EXPECTED} - {"status"}


def test_deployments_say_what_a_user_reads(client):
    for one in client.read_deployments():
        assert one.description, one.name

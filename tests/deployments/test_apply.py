"""``python -m deployments.apply``: made once and brought up to date; what is the lab's stays."""

from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.schemas.actions import VariableUpdate, WorkPoolUpdate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from typer import Typer
from typer.testing import CliRunner

from deployments.apply import apply, describe_automation, main, read_template, read_yaml
from phenopipe.errors import InputError

QUEUES = [("nightly", 1), ("default", 2), ("backfill", 3)]


def count_all(client):
    """Count what the server holds, by kind."""
    pools = client.read_work_pools()
    return {
        "pools": len(pools),
        "queues": sum(len(client.read_work_queues(work_pool_name=pool.name)) for pool in pools),
        "variables": len(client.read_variables()),
        "limits": len(client.read_global_concurrency_limits(limit=100)),
        "automations": len(client.read_automations()),
        "deployments": len(client.read_deployments()),
    }


def test_a_second_time_changes_nothing_and_says_so(client, run_command):
    before = count_all(client)
    again = run_command("deployments.apply")
    assert again.returncode == 0
    assert again.stdout == "All is as it should be.\n"
    assert count_all(client) == before


@pytest.mark.parametrize(("pool", "at_once"), [("cpu", 2), ("gpu-onprem", 1), ("gpu-cloud", 8)])
def test_nights_come_before_backfills_in_every_pool(client, pool, at_once):
    queues = client.read_work_queues(work_pool_name=pool)
    assert sorted((one.name, one.priority) for one in queues) == sorted(QUEUES)
    limits = {one.name: one.concurrency_limit for one in queues}
    assert limits == {"nightly": None, "default": None, "backfill": at_once}


def test_pools_are_of_their_types_with_our_templates(client):
    assert {pool.name: pool.type for pool in client.read_work_pools()} == {
        "cpu": "process",
        "gpu-onprem": "process",
        "gpu-cloud": "kubernetes",
    }
    stored = client.read_work_pool("gpu-cloud").base_job_template
    assert stored == read_template("gpu-cloud.json")


def test_what_the_lab_set_is_left_alone(client):
    client.update_variable(VariableUpdate(name="phenopipe_map", value=""))
    client.upsert_global_concurrency_limit_by_name("gpu-cloud", 32)
    queue = client.read_work_queue_by_name("backfill", work_pool_name="cpu")
    client.update_work_queue(queue.id, concurrency_limit=3)
    rerun = client.read_automations_by_name("rerun-crashed")[0]
    client.pause_automation(rerun.id)
    try:
        assert list(apply(client, {"root": "gs://lab/lake"})) == []
        assert client.read_variable_by_name("phenopipe_map").value == ""
        assert client.read_global_concurrency_limit_by_name("gpu-cloud").limit == 32
        queue = client.read_work_queue_by_name("backfill", work_pool_name="cpu")
        assert queue.concurrency_limit == 3
        assert not client.read_automation(rerun.id).enabled
    finally:
        client.update_variable(VariableUpdate(name="phenopipe_map", value="nightly"))
        client.upsert_global_concurrency_limit_by_name("gpu-cloud", 8)
        client.update_work_queue(queue.id, concurrency_limit=2)
        client.resume_automation(rerun.id)


def test_another_value_for_a_variable_is_not_taken_but_said_how(client):
    (told,) = apply(client, {"root": "gs://elsewhere"})
    assert "phenopipe_root: kept, 'gs://lab/lake'" in told
    assert "prefect variable set --overwrite phenopipe_root gs://elsewhere" in told
    assert client.read_variable_by_name("phenopipe_root").value == "gs://lab/lake"


def test_what_comes_with_phenopipe_is_brought_up_to_date(client):
    queue = client.read_work_queue_by_name("nightly", work_pool_name="cpu")
    client.update_work_queue(queue.id, priority=3)
    client.update_work_pool("cpu", WorkPoolUpdate(description="old"))
    stuck = client.read_automations_by_name("alert-stuck")[0]
    (spec,) = (one for one in read_yaml("automations.yaml") if one["name"] == stuck.name)
    old = describe_automation(spec, None)
    old.trigger.within = timedelta(minutes=1)
    client.update_automation(stuck.id, old)

    told = list(apply(client, {}))
    assert told[0] == "work pool cpu: updated"
    assert told[-1] == "automation alert-stuck: updated"
    assert list(apply(client, {})) == []
    assert client.read_automation(stuck.id).trigger.within == timedelta(hours=12)
    test_nights_come_before_backfills_in_every_pool(client, "cpu", 2)


@pytest.fixture
def invoke(server, deployed):  # noqa: ARG001
    """Call the command in this process; options as on a command line."""
    command = Typer()
    command.command()(main)

    def call(*options, api=server.api, password=server.password):
        settings = {PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: password}
        with temporary_settings({name: value for name, value in settings.items() if value}):
            return CliRunner().invoke(command, options)

    return call


def test_a_timezone_that_is_none_is_refused(invoke):
    told = invoke("--timezone", "Greenwich/London")
    assert told.exit_code == 2
    assert told.output.startswith("expected a time zone of the IANA database")


def test_a_wrong_password_is_told_in_a_sentence(invoke):
    told = invoke(password="lab:wrong")  # noqa: S106 - it is wrong
    assert told.exit_code == 2
    assert "asks for another password: set PREFECT_API_AUTH_STRING" in told.output
    assert "wrong" not in told.output


def test_without_a_server_it_says_which_setting_names_one(invoke):
    told = invoke(api=None)
    assert told.exit_code == 2
    assert "set PREFECT_API_URL" in told.output


def test_folders_become_absolute_for_runs_start_elsewhere(invoke):
    told = invoke("--landing", "landing")
    assert told.exit_code == 0
    assert f"overwrite phenopipe_landing {Path.cwd() / 'landing'}" in told.output


def test_a_lake_must_be_named_the_first_time(client):
    client.delete_variable_by_name("phenopipe_root")
    with pytest.raises(InputError, match="give --root or set PHENOPIPE_ROOT"):
        list(apply(client, {}))
    told = list(apply(client, {"root": "gs://lab/lake"}))
    assert told == ["variable phenopipe_root: made, 'gs://lab/lake'"]


def test_each_file_names_things_once():
    names = [spec["name"] for spec in read_yaml("automations.yaml")]
    assert len(set(names)) == len(names)

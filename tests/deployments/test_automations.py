"""What the server does by itself: states it knows, and messages that arrive."""

import ast
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from machines import PROJECT
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.actions import VariableUpdate
from prefect.events import emit_event
from prefect.server.events.schemas.automations import AutomationCore as ServersAutomation
from prefect.server.events.schemas.automations import EventTrigger as ServersTrigger
from prefect.server.events.schemas.events import RelatedResource, Resource
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Failed

from deployments.apply import apply, describe_automation, find_block, read_yaml
from phenopipe.errors import InputError

SPECS = {spec["name"]: spec for spec in read_yaml("automations.yaml")}
ALERTS = [name for name, spec in SPECS.items() if "notify" in spec]


def test_alerts_are_off_and_say_why_until_a_block_is_named(client):
    found = {one.name: one for one in client.read_automations()}
    assert set(found) == set(SPECS)
    for name, one in found.items():
        assert one.enabled == (name not in ALERTS), name
        assert ("phenopipe_notify names no notification block" in one.description) == (
            name in ALERTS
        )


def test_a_run_is_taken_for_dead_after_three_beats_missed():
    process = json.loads((PROJECT / "deployments/pools/process.json").read_text())
    beat = process["variables"]["properties"]["env"]["default"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
    assert SPECS["zombie-to-crashed"]["trigger"]["within"] == 3 * int(beat)


def test_no_run_is_begun_for_ever():
    counts = SPECS["rerun-crashed"]["trigger"]["match"]["prefect.run-count"]
    assert counts == ["1", "2", "3", "4"]


def test_of_a_backfill_one_message_is_sent_not_one_a_plate():
    for name in ("alert-failed", "alert-crashed", "alert-late"):
        trigger = describe_automation(SPECS[name], None).trigger
        of_plates, of_backfill, inside_another = (
            [{"role": "deployment"}, {"role": "flow", "name": "plates"}],
            [{"role": "deployment"}, {"role": "flow", "name": "backfill"}],
            [{"role": "flow", "name": "ingest-landing"}],
        )
        assert matches(trigger, of_backfill)
        assert not matches(trigger, of_plates)
        assert not matches(trigger, inside_another)


def matches(trigger, related):
    """Ask the server's own trigger whether a run with these relations concerns it."""
    run = {"prefect.resource.id": "prefect.flow-run.1"}
    relations = [
        {"prefect.resource.id": f"prefect.{one['role']}.1"}
        | {f"prefect.resource.{label}": value for label, value in one.items()}
        for one in related
    ]
    asked = ServersTrigger.model_validate(trigger.model_dump(mode="json"))
    return asked.covers_resources(Resource(run), [RelatedResource(one) for one in relations])


def named_states():
    """Find the names that flows and tasks give to states of their own."""
    calls = [
        node
        for folder in ("flows", "tasks")
        for path in (PROJECT / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return {
        keyword.value.value
        for call in calls
        if call.func.id in {"Completed", "Failed", "Cancelled", "Crashed", "State"}
        for keyword in call.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    }


def test_every_way_to_end_is_known_to_the_alert_on_stuck_runs():
    ends = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut"} | named_states()
    expected = {event.rpartition(".")[2] for event in SPECS["alert-stuck"]["trigger"]["expect"]}
    assert "Cached" in ends
    assert ends <= expected


@pytest.mark.parametrize("name", SPECS)
def test_the_server_takes_every_automation(name):
    block = None if name not in ALERTS else "0190f0e0-0000-7000-8000-000000000000"
    wanted = describe_automation(SPECS[name], block)
    taken = ServersAutomation.model_validate(wanted.model_dump(mode="json"))
    assert taken.enabled
    assert taken.trigger.threshold == 1


class Chat(HTTPServer):
    """A lab's chat, as far as a webhook can tell."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Post)
        self.messages = queue.Queue()
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Post(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.put(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def chat(client, server):
    """Give a chat that the lab is told in, by a notification block as one makes it in the UI."""
    chat = Chat()
    block = CustomWebhookNotificationBlock(
        name="lab-ops", url=chat.url, json_data={"subject": "{{subject}}", "text": "{{body}}"}
    )
    with temporary_settings(
        {PREFECT_API_URL: server.api, PREFECT_API_AUTH_STRING: server.password}
    ):
        block.save("lab-ops")
        client.update_variable(
            VariableUpdate(name="phenopipe_notify", value="custom-webhook/lab-ops")
        )
        yield chat
    client.update_variable(VariableUpdate(name="phenopipe_notify", value=""))
    list(apply(client, {}))
    chat.shutdown()


def test_with_a_block_alerts_are_on_and_lab_ops_are_told(client, server, chat):
    told = list(apply(client, {}))
    assert told == [f"automation {name}: updated" for name in SPECS if name in ALERTS]
    assert all(one.enabled for one in client.read_automations())

    emit_event(
        "phenopipe.plate.qc-failed",
        resource={"prefect.resource.id": "phenopipe.plate.Batch1.Plate1"},
        payload={"experiment": "Batch1", "plate": "Plate1", "reason": "out of focus"},
    )
    message = chat.messages.get(timeout=30)
    assert message["subject"] == "QC failed: Batch1/Plate1"
    assert message["text"].startswith("out of focus")

    fail(client, "plates/cpu", root="gs://lab/lake", plates=["Batch1/Plate1"])
    backfill = fail(client, "backfill/backfill")
    message = chat.messages.get(timeout=30)
    assert message["subject"] == f"Failed: backfill {backfill.name}"
    assert message["text"].split() == [
        "out",
        "of",
        "disk",
        f"{server.address}/runs/flow-run/{backfill.id}",
    ]
    assert chat.messages.empty(), "of a backfill's plates nobody is told one by one"


def fail(client, deployment, **parameters):
    """Have a run end failed, as a worker's process reports it."""
    found = client.read_deployment_by_name(deployment)
    run = client.create_flow_run_from_deployment(found.id, parameters=parameters)
    client.set_flow_run_state(run.id, Failed(message="out of disk"), force=True)
    return run


def test_a_block_that_is_not_there_is_told_in_a_sentence(client):
    client.update_variable(VariableUpdate(name="phenopipe_notify", value="slack-webhook/nobody"))
    try:
        with pytest.raises(InputError, match="'slack-webhook/nobody', expected type/name"):
            find_block(client)
    finally:
        client.update_variable(VariableUpdate(name="phenopipe_notify", value=""))

"""The page that a user sets it up from says what is so."""

import re

from machines import PROJECT

from deployments.apply import read_yaml

PAGE = (PROJECT / "docs/nightly.md").read_text()


def test_from_a_clone_to_a_running_night_is_five_commands():
    beginning = PAGE[: PAGE.index("At half past one")]
    blocks = re.findall(r"```sh\n(.*?)```", beginning, re.DOTALL)
    assert len("".join(blocks).splitlines()) <= 5


def test_every_deployment_is_explained_with_its_pool_or_form():
    for spec in read_yaml("prefect.yaml")["deployments"]:
        flow = spec["entrypoint"].split(".")[1]
        assert re.search(rf"`[a-z-]+/{spec['name']}`", PAGE), (flow, spec["name"])


def test_every_variable_queue_and_alert_is_explained():
    server = read_yaml("server.yaml")
    named = [*server["variables"], *server["pools"], *server["queues"], *server["limits"]]
    alerts = [spec["name"] for spec in read_yaml("automations.yaml") if "notify" in spec]
    assert [name for name in [*named, *alerts] if f"`{name}`" not in PAGE] == []


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (PROJECT / "docs" / link).exists(), link

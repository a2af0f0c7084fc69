"""What a user sees of each flow before it starts: a form with help, in the order of the code."""

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from flows.backfill import backfill
from flows.benchmark import score_map
from flows.embed import embed_screen
from flows.forms import choose_embedding
from flows.ingest import ingest_landing
from flows.maintain import maintain
from flows.map import make_map
from flows.nightly import nightly
from flows.plates import process_plates
from flows.screen_to_map import screen_to_map
from flows.status import report_status
from flows.transfer import transfer_plates
from phenopipe.config import EmbedConfig, Settings

FLOWS = [
    backfill,
    embed_screen,
    ingest_landing,
    maintain,
    make_map,
    nightly,
    process_plates,
    report_status,
    score_map,
    screen_to_map,
    transfer_plates,
]


def fields_of(flow):
    """Give the form's fields; a nested one with the help of the model that it is."""
    schema = parameter_schema(flow)
    models = {f"#/definitions/{name}": model for name, model in schema.definitions.items()}
    return {
        name: models.get(field.get("$ref"), {}) | field for name, field in schema.properties.items()
    }


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_each_question_has_its_help_and_its_place(flow):
    fields = fields_of(flow)
    assert [field["position"] for field in fields.values()] == list(range(len(fields)))
    assert [name for name, field in fields.items() if not field.get("description")] == []
    assert flow.description


def test_choices_are_lists_to_choose_from_and_limits_are_checked_before_a_run():
    fields = fields_of(backfill)
    assert fields["where"]["enum"] == ["here", "cpu", "gpu-onprem", "gpu-cloud"]
    assert fields["stages"]["items"]["enum"] == ["embed", "map", "benchmark"]
    assert fields["provider"]["enum"] == ["auto", "cpu", "cuda", "tensorrt", "openvino"]
    assert (fields["in_flight"]["minimum"], fields["in_flight"]["maximum"]) == (1, 199)


@pytest.mark.parametrize("name", ["../../etc/passwd", "HUVEC-1", "a/b/c", "/a", "a/..", "a\n/b"])
def test_a_plate_that_could_leave_the_lake_is_refused_by_the_form(name):
    with pytest.raises(ParameterTypeError, match="plates"):
        process_plates.validate_parameters({"plates": [name], "root": "lake"})


@pytest.mark.parametrize(
    ("settings", "provider", "where", "runs_on"),
    [
        ({}, "auto", "here", "cpu"),
        ({}, "auto", "cpu", "cpu"),
        ({}, "auto", "gpu-onprem", "cuda"),
        ({"provider": "openvino"}, "auto", "gpu-cloud", "openvino"),
        ({"provider": "openvino"}, "tensorrt", "gpu-cloud", "tensorrt"),
    ],
)
def test_the_provider_is_the_one_asked_for_then_the_settings_then_the_pools(
    settings, provider, where, runs_on
):
    chosen = Settings(embed=EmbedConfig(crop=32, **settings))
    config = choose_embedding(chosen, provider=provider, where=where)
    assert (config.provider, config.crop) == (runs_on, 32)

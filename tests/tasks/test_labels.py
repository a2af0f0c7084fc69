"""Names by which lab ops find things; no server is needed for this."""

from hypothesis import given
from hypothesis import strategies as st
from prefect.context import TagsContext
from prefect.types.names import ArtifactKey
from pydantic import TypeAdapter

from tasks.labels import artifact_key, tagged

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,8}", fullmatch=True)


@given(st.tuples(NAMES, NAMES))
def test_any_plate_has_a_key_that_prefect_takes(names):
    assert TypeAdapter(ArtifactKey).validate_python(artifact_key("qc", *names))


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_plates_that_differ_by_more_than_case_never_share_a_page(one, other):
    alike = [name.lower() for name in one] == [name.lower() for name in other]
    assert alike or artifact_key("qc", *one) != artifact_key("qc", *other)


def test_names_that_run_together_are_told_apart():
    keys = {artifact_key("qc", *names) for names in (("a-b", "c"), ("a", "b-c"), ("a", "b_c"))}
    assert len(keys) == 3


def test_runs_are_tagged_with_what_is_known():
    with tagged(experiment="HUVEC-1", model="vit"):
        assert TagsContext.get().current_tags == {"experiment:HUVEC-1", "model:vit"}
    assert TagsContext.get().current_tags == set()

import pytest

from phenopipe.errors import InputError
from phenopipe.outputs import check_free, whole_file


def test_a_file_appears_when_it_is_whole(tmp_path):
    out = check_free(tmp_path / "out.csv")
    with whole_file(out) as draft:
        draft.write_text("half")
        assert not out.exists()
    assert out.read_text() == "half"
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "out.csv") as draft:
        draft.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


def test_what_another_run_made_meanwhile_stays(tmp_path):
    out = tmp_path / "out.csv"

    def write():
        with whole_file(out) as draft:
            draft.write_text("ours")
            out.write_text("theirs")

    with pytest.raises(InputError, match="not there yet"):
        write()
    assert out.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("out", "said"), [("gs://bucket/x.csv", "a local file"), ("none/x.csv", "the folder none")]
)
def test_what_cannot_be_made_is_said(out, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        check_free(out)

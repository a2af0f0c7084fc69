import pytest
from blake3 import blake3

from phenopipe import digests


@pytest.mark.parametrize("size", [0, 1, 10, 11, 35])
def test_a_file_that_is_read_in_blocks_has_the_digest_of_its_bytes(tmp_path, monkeypatch, size):
    monkeypatch.setattr(digests, "_MAPPED", 10)
    monkeypatch.setattr(digests, "_BLOCK", 7)
    content = bytes(range(size))
    (tmp_path / "file").write_bytes(content)
    assert digests.digest_file(tmp_path / "file") == blake3(content).hexdigest()

"""What a crop costs is counted from the architecture; torch counts what the module does."""

import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.vits import CROP, N_CHANNELS, VITS, build_module  # noqa: E402


@pytest.mark.parametrize("vit", VITS.values(), ids=list(VITS))
def test_flops_are_those_that_torch_counts(vit):
    module = build_module(vit).to("meta")  # shapes alone: nothing is computed
    crops = torch.zeros(1, N_CHANNELS, CROP, CROP, device="meta")
    with FlopCounterMode(display=False) as counter:
        module(crops)
    assert counter.get_total_flops() == vit.flops

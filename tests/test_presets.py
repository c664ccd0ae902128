"""The presets have the published numbers in them."""

import numpy as np
import pytest

import probtensor as pt
from probtensor.axes import Axis
from probtensor.hyperparameters import ShareOfRange, fixed, parameters
from probtensor.terms.base import DataScale
from probtensor.terms.cp import BoundCP
from probtensor.terms.tucker import BoundTucker
from tests.helpers import assert_close
from tests.terms.problems import AXES

SCALE = DataScale(0.0, 1.0)


@pytest.mark.parametrize(("decomposition", "kind"), [("tucker", BoundTucker), ("cp", BoundCP)])
def test_funbat_holds_every_hyper_parameter(decomposition, kind):
    term = pt.presets.funbat(2, decomposition, nu=1 / 2).bind(AXES, SCALE)
    assert isinstance(term, kind)
    modes = dict(zip(term.names, term.blocks[:3], strict=True))
    assert sorted(modes) == ["lat", "site", "time"]
    for name, span in {"lat": 7.0, "site": 2.0, "time": 7.0}.items():
        kernel = modes[name].prior.kernel
        assert kernel.nu == 0.5
        assert_close(kernel.lengthscale.value, np.full(2, span / 100))
        assert_close(kernel.variance.value, np.ones(2))
    assert not any(p.learned for block in term.blocks for p in parameters(block.prior))
    if decomposition == "tucker":
        assert_close(term.core.prior.variance.value, [1.0])


def test_funbat_keeps_a_single_level_out():
    axes = {**AXES, "member": Axis("member", "numeric", np.zeros(1))}
    assert pt.presets.funbat(2).bind(axes, SCALE).constant == ("member",)
    assert pt.presets.funbat(2).bind(axes, SCALE).blocks[0].prior.kernel.nu == 1.5


def test_bcp_has_exchangeable_levels_and_a_variance_for_each_component():
    term = pt.presets.bcp(3).bind(AXES, SCALE)
    assert all(isinstance(block.prior, pt.Categorical) for block in term.blocks)
    learned = [p for block in term.blocks for p in parameters(block.prior) if p.learned]
    assert len(learned) == 1 and learned[0].value.shape == (3,)


def test_bad_choices():
    with pytest.raises(pt.ModelError, match=r"decomposition='tt'\): expected 'tucker' or 'cp'"):
        pt.presets.funbat(2, "tt")
    with pytest.raises(pt.ModelError, match="rank=0"):
        pt.presets.bcp(0)
    with pytest.raises(pt.ModelError, match="variance=.*does not belong to an axis"):
        pt.CP(1, {"lat": pt.Matern(1 / 2, variance=fixed(ShareOfRange(0.1)))}).bind({"lat": AXES["lat"]}, SCALE)

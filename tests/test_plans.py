"""What plans take and give: codes, batches of any size, several inputs and outputs, the same bytes everywhere."""

from __future__ import annotations

import hashlib
import textwrap

import numpy as np
import pytest
from nets import NETS, Then, assert_interpreted, conv, images, inputs_of, off_by, randomise
from processes import run_python

import tinyml
from tinyml import Tensor, models, nn
from tinyml._kernels import dispatch
from tinyml.errors import DtypeError, ShapeError
from tinyml.nn import functional as F
from tinyml.plan.steps import STEPS
from tinyml.tape import no_grad


def test_codes_in_and_out(tmp_path):
    for model in (randomise(models.CifarCNN(width=4)), models.MLP(192, 7, 3)):
        x = images((3, 8, 8), 6, 0)
        plan = model.to_int8(calibration=[x])
        y = plan.codes(x)
        assert y.dtype == np.int8 and y.dequantize().numpy().tobytes() == plan(x).numpy().tobytes()

        codec = plan.inputs[0].codec
        entered = Tensor(x).to_int8(codec.scale, codec.zero_point)
        assert plan.codes(entered).numpy().tobytes() == y.numpy().tobytes()
        assert plan(entered).numpy().tobytes() == plan(x).numpy().tobytes()
        for scale, zero in ((codec.scale * 2, codec.zero_point), (codec.scale, codec.zero_point + 1)):
            with pytest.raises(DtypeError, match=r"expected int8 input with Codec\(scale=.*, got scale="):
                plan.codes(Tensor(x).to_int8(scale, zero))


def test_int8_input_reaches_float_steps_too():
    model = Then(lambda m, x: m.a(x) * x, nn.Linear(4, 4))
    x = images((4,), 3, 0)
    plan = model.to_int8(calibration=[x])
    codec = plan.inputs[0].codec
    q = Tensor(x).to_int8(codec.scale, codec.zero_point)
    assert np.array_equal(plan(q).numpy(), plan(q.dequantize()).numpy())


def test_what_plans_refuse():
    model = randomise(models.CifarCNN(width=4))
    x = images((3, 8, 8), 3, 0)
    plan = model.to_int8(calibration=[x])
    bad = x.copy()
    bad[1, 0, 2, 3] = bad[0, 0, 0, 0] = np.nan
    with pytest.raises(ShapeError, match="2 of 576 values to quantize in 0 are NaN"):
        plan(bad)
    with pytest.raises(DtypeError, match=r"expected float32 \(or int8\) input, got int64"):
        plan(np.zeros((1, 3, 8, 8), np.int64))
    with pytest.raises(ShapeError, match=r"expected input \(B, 3, 8, 8\), got \(1, 3, 8, 7\)"):
        plan(x[:1, :, :, 1:])
    with pytest.raises(ShapeError, match=r"expected 1 input\(s\), got 2"):
        plan(x, x)
    bad[np.isnan(bad)] = np.inf     # beyond the range: the largest code
    top = x.copy()
    top[1, 0, 2, 3] = top[0, 0, 0, 0] = 1e9
    assert np.array_equal(plan(bad).numpy(), plan(top).numpy())


@pytest.mark.parametrize("name", NETS)
def test_an_empty_batch_gives_an_empty_result(name):
    model, x = NETS[name][0](), inputs_of(name, 2, 0)
    with no_grad():
        expected = model.eval()(x).shape[1:]
    plan = model.to_int8(calibration=[x])
    if name == "shapes between":        # reshape(0, -1) has no answer, in NumPy as in the float model
        with pytest.raises(ShapeError, match=r"reshape: 0 elements of shape \(0, 3, 3\) do not fit shape \(0, -1\)"):
            plan(x[:0])
    else:
        assert plan(x[:0]).shape == (0, *expected)


def several(m, x, y):
    z = F.relu6(m.a(x) * m.b(y))
    both = F.cat([z, m.a(x)], dim=1)
    return both, z, m.c(both - m.b(y)[:, :1]) + y[:, :1], z


def test_several_inputs_and_outputs(tmp_path):
    """An output may be read further on, and be given twice."""
    model = randomise(Then(several, nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(6, 2)))
    x, y = images((4,), 40, 0), images((2,), 40, 1)
    plan = model.to_int8(calibration=[((x[:15], y[:15]), np.zeros(15)), ((x[15:], y[15:]), np.zeros(25))])
    assert plan.islands == [] and plan.info["calibration"]["samples"] == 40
    assert len(plan(x, y)) == 4 and off_by(plan, model, x, y) < 0.05
    for batch in (0, 1, 7):
        assert_interpreted(plan, tmp_path / "plan.safetensors", x[:batch], y[:batch])
    with pytest.raises(ShapeError, match=r"expected input \(B, 2\), got \(3, 2\)"):
        plan(x, y[:3])
    with pytest.raises(DtypeError, match="a plan with one output"):
        plan.codes(x)


# ---- the same bytes everywhere


def test_threads_do_not_change_a_byte(tmp_path):
    model = randomise(nn.Sequential(*conv(8, 33, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *conv(33, 32, 3),
                                    nn.Sigmoid(), nn.AdaptiveAvgPool2d(3)))
    x = images((8, 24, 22), 6, 0)
    plan = model.to_int8(calibration=[x])
    outputs = []
    for threads in (1, 2, 3):
        tinyml.set_num_threads(threads)
        outputs.append(plan(x).numpy().tobytes())
    assert outputs[0] == outputs[1] == outputs[2]
    assert_interpreted(plan, tmp_path / "plan.safetensors", x)


def test_instruction_sets_give_the_same_bytes(tmp_path):
    """All nets, which between them have every kind of integer step."""
    kinds, expected = set(), {}
    for at, (name, (make, _)) in enumerate(NETS.items()):
        x = inputs_of(name, 6, 0)
        plan = randomise(make()).to_int8(calibration=[x])
        plan.save(tmp_path / f"{at}.safetensors")
        np.save(tmp_path / f"{at}.npy", x)
        expected[str(at)] = hashlib.sha256(plan(x).numpy().tobytes()).hexdigest()
        kinds.update(s.kind for s in plan.steps)
    assert kinds == STEPS.keys() - {"island", "float_product"}
    code = textwrap.dedent("""
        import hashlib, pathlib, sys, numpy, tinyml
        print(tinyml.config()["isa"])
        for path in pathlib.Path(sys.argv[1]).glob("*.safetensors"):
            y = tinyml.load(path)(numpy.load(path.with_suffix(".npy"))).numpy()
            print(path.stem, hashlib.sha256(y.tobytes()).hexdigest())
    """)
    for isa in dispatch.available():
        done = run_python("-c", code, str(tmp_path), TINYML_ISA=isa)
        assert not done.returncode, done.stderr
        first, *lines = done.stdout.splitlines()
        assert first == isa and dict(line.split() for line in lines) == expected


def test_the_memory_of_the_input_may_be_of_any_order():
    for name in ("CifarCNN", "sequences"):
        make, shape = NETS[name]
        x = images(shape, 6, 0)
        plan = make().to_int8(calibration=[x])
        expected = plan(x).numpy().tobytes()
        gaps = np.zeros((12, *shape, 2), np.float32)
        gaps[::2, ..., 1] = x
        for other in (np.asfortranarray(x), x[::-1].copy()[::-1], gaps[::2, ..., 1], x.astype(np.float64), Tensor(x)):
            assert plan(other).numpy().tobytes() == expected

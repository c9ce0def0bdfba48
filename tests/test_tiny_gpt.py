"""TinyGPT: causality, its output projection, how it samples, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from values import close, softmax

import tinyml.random
from tinyml.errors import DtypeError, ShapeError
from tinyml.models import TinyGPT, next_token_loss
from tinyml.models.gpt.generation import Sampling


def gpt(**options):
    tinyml.random.manual_seed(3)
    return TinyGPT(**{"vocab_size": 11, "context": 6, "layers": 2, "heads": 2, "dim": 8} | options)


def test_gpt_is_causal():
    model, ids = gpt().eval(), np.array([[1, 2, 3, 4, 5, 6]])
    logits = model(ids).numpy()
    for t in range(1, 6):
        changed = ids.copy()
        changed[0, t] = 9
        other = model(changed).numpy()
        np.testing.assert_array_equal(other[:, :t], logits[:, :t])
        assert not np.allclose(other[:, t], logits[:, t])
        close(model(ids[:, :t]), logits[:, :t])


def test_gpt_output_projection_is_the_token_embedding_or_its_own():
    tied, untied = gpt(), gpt(tied=False)
    assert tied.head.weight is tied.tokens.weight and untied.head.weight is not untied.tokens.weight
    assert len(untied.parameters()) == len(tied.parameters()) + 1
    np.testing.assert_array_equal(tied.state_dict()["head.weight"], tied.state_dict()["tokens.weight"])
    ids = np.array([[1, 2]])
    next_token_loss(tied(ids), ids).backward()
    grad = tied.tokens.weight.grad.numpy()
    assert (grad[[1, 2]] != 0).any() and (grad[[0, 3, 10]] != 0).any()     # from the embedding and from the projection


def test_gpt_greedy_generation_takes_the_likeliest_and_slides_over_the_context():
    model = gpt()
    out = model.generate(np.array([3, 1], np.int32), 9, temperature=0)
    assert out.shape == (11,) and list(out[:2]) == [3, 1] and model.training
    model.eval()
    for t in range(2, 11):
        window = out[max(0, t - 6) : t]
        assert out[t] == model(window[None]).numpy()[0, -1].argmax()
    batch = model.generate([[3, 1], [5, 5]], 4, temperature=0)
    assert batch.shape == (2, 6)
    np.testing.assert_array_equal(batch[0], out[:6])
    np.testing.assert_array_equal(model.generate([3, 1], 0), [3, 1])
    with pytest.raises(ShapeError, match=r"a prompt of 9 ids is longer than the context of 6; pass its end, ids\[-6:\]"):
        model.generate(range(9), 1)


def test_gpt_sampling_follows_the_seed_and_the_distribution():
    model = gpt(dropout=0.5)        # generation is in evaluation mode: no dropout
    a, b, c = (model.generate([1], 20, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    model.head.weight.array *= 100   # a distribution that is not flat
    p = softmax(model.eval()(np.array([[1]])).numpy()[0, -1].astype(np.float64))
    drawn = model.generate(np.ones((4000, 1), np.int64), 1, seed=0)[:, 1]
    share = np.bincount(drawn, minlength=11) / 4000
    assert (abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 4000) + 1e-3).all()


def test_gpt_top_k_samples_among_the_likeliest():
    model = gpt()
    order = model.eval()(np.array([[1]])).numpy()[0, -1].argsort()[::-1]
    drawn = model.generate(np.ones((300, 1), np.int64), 1, temperature=100.0, top_k=3, seed=0)[:, 1]
    assert set(drawn) == set(order[:3])
    every = model.generate(np.ones((300, 1), np.int64), 1, temperature=100.0, top_k=99, seed=0)[:, 1]
    assert set(every) == set(range(11))
    np.testing.assert_array_equal(model.generate([1], 5, top_k=1, seed=1), model.generate([1], 5, temperature=0))


def test_gpt_samples_only_what_has_a_probability():
    class Ends:
        """Draws the two ends of [0, 1)."""

        def random(self, shape):
            return np.array([[0.0], [np.nextafter(1.0, 0)]]).reshape(shape)

    logits = np.log(np.array([[0.1, 0.2, 0.7, 0.6, 0.1]] * 2))
    assert list(Sampling(top_k=2).draw(logits, logits.argmax(axis=1), None, Ends())) == [2, 3]


@pytest.mark.parametrize(("prompt", "error", "message"), [
    ([], ShapeError, "at least one id"), (np.zeros((2, 0), np.int64), ShapeError, r"one id.*got \(0,\), \(0,\)"),
    (3, ShapeError, "at least one, got 3"), ([[[1]]], ShapeError, r"at least one, got \(1, 1\)"),
    ([1.0, 2.0], DtypeError, "expected ids to be an array of integers, got float64"), ([True], DtypeError, "got bool"),
    ([1, 11], ShapeError, r"ids in \[0, 11\), got 1 to 11"), ([-1], ShapeError, "-1")])
def test_gpt_refuses_wrong_prompts(prompt, error, message):
    model = gpt()
    with pytest.raises(error, match=message):
        model.generate(prompt, 2)
    assert model.training       # also after an error


def test_gpt_refuses_ids_that_do_not_fit():
    for ids in (np.zeros(3, np.int64), np.zeros((1, 7), np.int64), np.zeros((1, 0), np.int64)):
        with pytest.raises(ShapeError, match=r"expected ids \(B, T\) with T from 1 to 6"):
            gpt()(ids)
    with pytest.raises(DtypeError, match="embedding"):
        gpt()(np.zeros((1, 2), np.float32))

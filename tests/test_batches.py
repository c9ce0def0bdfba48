"""The forms of a batch: nests of arrays through data sets, loaders, training, evaluation and prediction."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers import weights

import tinyml
from tinyml import nn, optim
from tinyml.batches import call
from tinyml.data import ArrayDataset, DataLoader, Dataset, RandomBatches
from tinyml.data.dataset import collate
from tinyml.errors import DtypeError, ShapeError
from tinyml.nests import leaves, map_arrays
from tinyml.nn import functional as F
from tinyml.tensors import Tensor
from tinyml.trainer import Trainer

Named = namedtuple("Named", "ids mask")


def nests(leaf):
    names = st.sampled_from(["ids", "mask", "labels"])
    return st.recursive(leaf, lambda inner: st.one_of(
        st.tuples(inner), st.tuples(inner, inner), st.builds(Named, inner, inner),
        st.dictionaries(names, inner, min_size=1, max_size=3)), max_leaves=6)


@given(nest=nests(st.sampled_from([(), (2,), (3, 1)])), n=st.integers(1, 4), data=st.data())
def test_items_of_any_form_become_a_batch_of_that_form(nest, n, data):
    kinds = data.draw(st.lists(st.sampled_from([np.float32, np.int64, bool]), min_size=6, max_size=6))
    shapes = [shape for _, shape in shapes_of(nest)]
    rng = np.random.default_rng(0)
    columns = [[np.array(3 * rng.standard_normal(shape)).astype(kind) for _ in range(n)]
               for shape, kind in zip(shapes, kinds)]
    items = [filled(nest, iter([column[i] for column in columns])) for i in range(n)]
    batch = collate(items, "inputs")
    assert [path for path, _ in leaves(batch)] == [path for path, _ in leaves(items[0])]
    assert form(batch) == form(items[0])
    for (_, a), column in zip(leaves(batch), columns, strict=True):
        assert np.array_equal(a, np.stack(column)) and a.dtype == column[0].dtype


def shapes_of(nest, path=()):
    """The shapes in a nest of them; a shape is a tuple of numbers."""
    if isinstance(nest, tuple) and all(isinstance(v, int) for v in nest):
        yield path, nest
        return
    for key, value in nest.items() if isinstance(nest, dict) else enumerate(nest):
        yield from shapes_of(value, (*path, key))


def filled(nest, arrays):
    if isinstance(nest, tuple) and all(isinstance(v, int) for v in nest):
        return next(arrays)
    if isinstance(nest, dict):
        return {name: filled(value, arrays) for name, value in nest.items()}
    parts = [filled(value, arrays) for value in nest]
    return Named(*parts) if isinstance(nest, Named) else tuple(parts)


def form(nest):
    if isinstance(nest, np.ndarray):
        return None
    return type(nest), {k: form(v) for k, v in nest.items()} if isinstance(nest, dict) else [form(v) for v in nest]


class Words(nn.Module):
    """Means of embeddings that a mask leaves in."""

    def __init__(self):
        self.words, self.head = nn.Embedding(7, 6), nn.Linear(6, 2)

    def forward(self, ids, mask):
        return self.head((self.words(ids) * mask.reshape(*mask.shape, 1)).sum(1))


class ByName(Words):
    def forward(self, *, mask, ids):
        return super().forward(ids, mask)


class Whole(Words):
    """Takes the dict itself."""

    def forward(self, batch):
        return super().forward(batch["ids"], batch["mask"])


class Items(Dataset):
    """Items one at a time, in a given form."""

    def __init__(self, make, n=24):
        rng = np.random.default_rng(0)
        self.ids, self.mask = rng.integers(0, 7, (n, 4)), rng.integers(0, 2, (n, 4)).astype(np.float32)
        self.make = make

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return self.make(self.ids[i], self.mask[i]), int(self.ids[i, 0] > 3)


def trained(model, loader):
    t = Trainer(model, optim.SGD(model.parameters(), 0.5), progress=False)
    return t.fit(loader, 2, validation=loader), weights(t.model), t.predict(loader), t.evaluate(loader)


FORMS = [(Words, lambda ids, mask: (ids, mask)), (Words, lambda ids, mask: [ids, mask]), (Words, Named),
         (Words, lambda ids, mask: {"mask": mask, "ids": ids}), (ByName, lambda ids, mask: {"ids": ids, "mask": mask}),
         (Words, lambda ids, mask: OrderedDict(ids=Tensor(ids), mask=mask)),
         (Whole, lambda ids, mask: {"ids": ids, "mask": mask})]


def test_several_inputs_train_alike_in_whatever_form_they_come():
    ends = []
    for kind, make in FORMS:
        tinyml.manual_seed(0)
        history, state, outputs, found = trained(kind(), DataLoader(Items(make), 8, shuffle=True, seed=1))
        assert outputs.shape == (24, 2)
        ends.append((history[-1]["train_loss"], history[-1]["validation_accuracy"], state, outputs.tobytes(), found))
    assert all(end == ends[0] for end in ends)


def test_arrays_of_several_inputs_are_a_data_set():
    items = Items(lambda ids, mask: (ids, mask))
    targets = np.array([y for _, y in (items[i] for i in range(24))])
    for inputs in ((items.ids, items.mask), Named(items.ids, Tensor(items.mask)), {"ids": items.ids, "mask": items.mask}):
        whole = ArrayDataset(inputs, targets)
        assert len(whole) == 24 and type(whole[3][0]) is type(inputs)
        batch, y = next(iter(RandomBatches(whole, 5, 1, seed=0)))
        expected = np.random.default_rng([0, 0]).integers(24, size=5)
        assert [a.numpy().tolist() for _, a in leaves(batch)] == [a[expected].tolist() for a in (items.ids, items.mask)]
        assert y.numpy().tolist() == targets[expected].tolist()
    with pytest.raises(ShapeError, match=r"inputs\[0\] \(24, 4\) and inputs\[1\] \(23, 4\) and targets \(24,\)"):
        ArrayDataset((items.ids, items.mask[1:]), targets)
    pairs = ArrayDataset((items.ids, items.mask), targets)
    named = DataLoader(pairs, 8, transform=lambda x, rng: {"ids": x[0], "mask": x[1]})
    assert all(list(x) == ["ids", "mask"] for x, _ in named)


class Heads(nn.Module):
    """Two outputs."""

    def __init__(self, kind):
        self.first, self.second, self.kind = nn.Linear(4, 3), nn.Linear(4, 2), kind

    def forward(self, x):
        return self.kind(self.first(x), self.second(x))


def test_several_outputs_and_targets_go_to_the_loss_as_they_are():
    rng = np.random.default_rng(0)
    x, classes, numbers = (rng.standard_normal((20, 4)).astype(np.float32), rng.integers(0, 3, 20),
                           rng.standard_normal((20, 2)).astype(np.float32))
    seen = []

    def loss(outputs, targets):
        seen.append((type(outputs), type(targets)))
        parts = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
        return F.cross_entropy(parts[0], targets["class"]) + F.mse_loss(parts[1], targets["number"])

    def metric(outputs, targets):
        parts = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
        assert all(isinstance(a, np.ndarray) for a in (*parts, *targets.values()))
        return float((parts[0].argmax(1) == targets["class"]).mean())

    loader = DataLoader(ArrayDataset(x, {"class": classes, "number": numbers}), 8)
    ends = []
    for kind in (lambda a, b: (a, b), Named, lambda a, b: {"a": a, "b": b}, lambda a, b: [a, b]):
        tinyml.manual_seed(0)
        model = Heads(kind)
        t = Trainer(model, optim.SGD(model.parameters(), 0.1), loss, progress=False)
        row = t.fit(loader, 2, validation=loader, metric=metric)[-1]
        assert "validation_accuracy" not in row and row["validation_metric"] > 0
        outputs = t.predict(loader)
        assert type(outputs) is type(kind(0, 0)) and seen[-1] == (type(outputs), dict)
        first, second = outputs.values() if isinstance(outputs, dict) else outputs
        np.testing.assert_allclose(first, model.first(x).numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(second, model.second(x).numpy(), rtol=1e-5, atol=1e-6)
        ends.append((row["train_loss"], row["validation_loss"], weights(model)))
    assert all(end == ends[0] for end in ends)


def test_other_forms_are_errors_that_say_which_there_are():
    x, y = np.zeros((2, 4), np.float32), np.zeros(2, np.int64)
    linear, words = nn.Linear(4, 2), Words()
    t, two = (Trainer(m, optim.SGD(m.parameters(), 0.1), progress=False) for m in (linear, words))
    forms = "inputs are an array, a tuple of arrays, or a dict from the names of forward's arguments to arrays"
    for call_, error, message in [
        (lambda: t.fit([{"x": x, "y": y}], 1), ShapeError, f"fit: .* got dict of 2; {forms}"),
        (lambda: t.fit([(x, None)], 1), ShapeError, "got None as one of them"),
        (lambda: t.fit([(x, "cat")], 1), ShapeError, "got a str"),
        (lambda: t.evaluate([(x, y, y)]), ShapeError, f"evaluate: .* got tuple of 3; {forms}"),
        (lambda: t.predict([(x, y, y)]), ShapeError, r"inputs as one tuple, \(\(x1, x2\), targets\); got a tuple of 3"),
        (lambda: t.predict({"x": x}), ShapeError, r"pass \[inputs\]"),
        (lambda: t.predict([{"y": x}]), ShapeError, "Linear takes x, got y; as a whole it was refused"),
        (lambda: two.predict([{"ids": y, "masks": x}]), ShapeError, "Words takes ids, mask, got ids, masks"),
        (lambda: collate([(x, y), x], "inputs"), ShapeError, r"inputs of one batch: expected items of one form, .*\[1\]"),
        (lambda: collate([{"a": 1}, {"b": 1}], "targets"), ShapeError, r"\['a'\] and at \['b'\]"),
        (lambda: collate([{"a": "cat"}], "targets"), DtypeError, r"targets\['a'\] of one batch: expected arrays of num"),
    ]:
        with pytest.raises(error, match=message):
            call_()
    assert np.array_equal(t.predict([{"x": x}]), t.predict([x]))
    assert map_arrays(type, (x, {"a": 1})) == (np.ndarray, {"a": int}) and call(linear, [Tensor(x)]).shape == (2, 2)

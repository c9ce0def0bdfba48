"""What notebooks show of results."""

from __future__ import annotations

import html

import numpy as np

import tinyml
from tinyml import models, nn, optim, precision
from tinyml.tables import History


def test_comparisons_and_diagnoses_show_their_text():
    model, x = models.MLP(4, 3, 2), np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    for found in (precision.compare(model, model.to_int8(), [x], show=False, seconds=0.01), precision.diagnose(model, x)):
        assert found._repr_html_() == f"<pre>{html.escape(str(found))}</pre>" and "\n" in str(found)


def test_reports_show_their_page():
    shown = tinyml.report.report(nn.Linear(4, 2))._repr_html_()
    page = html.unescape(shown.split('srcdoc="')[1].split('"')[0])
    assert page.startswith("<!") and "Linear" in page and shown.endswith("</iframe>")


def test_histories_show_a_table(tmp_path):
    x = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
    model = nn.Linear(2, 2)
    history = tinyml.Trainer(model, optim.SGD(model.parameters(), lr=0.1)).fit([(x, np.arange(8) % 2)], epochs=2)
    lines = history._repr_html_().splitlines()
    assert len(lines) == 4 and lines[0].split()[:2] == ["<pre>epoch", "updates"]
    assert f"{history[1]['train_loss']:.4g}" in lines[3]
    assert History()._repr_html_() == "<pre>no epochs</pre>"
    tinyml.save({"history": history}, tmp_path / "x")
    assert tinyml.load(tmp_path / "x") == {"history": list(history)}

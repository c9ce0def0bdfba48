"""The examples in the docstrings of plans and precision are run, and each public function has one."""

from __future__ import annotations

import doctest
import inspect

import pytest

import tinyml
from tinyml import graph, precision
from tinyml.precision.convert import compile_model

# results and what makes them, which print tables of measured times
WITHOUT = {"Comparison", "Diagnosis", "LayerDiagnosis", "OBSERVERS", "compare", "diagnose"}
PUBLIC = {name: getattr(precision, name) for name in precision.__all__ if name not in WITHOUT}
PUBLIC |= {"trace": tinyml.trace, "compile": compile_model, "Graph": graph.Graph}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_a_public_object_prints_what_it_shows(name):
    found = PUBLIC[name]
    doc = inspect.getdoc(found)
    test = doctest.DocTestParser().get_doctest(doc, {}, name, None, None)
    assert test.examples, f"{name} has no example"
    failed, _ = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test)
    assert not failed


@pytest.mark.parametrize("name", [name for name, found in PUBLIC.items() if inspect.isfunction(found)])
def test_a_public_function_says_what_it_takes_gives_and_raises(name):
    doc = inspect.getdoc(PUBLIC[name])
    for section in ("Args:", "Returns:", "Raises:"):
        assert section in doc, f"{name} has no {section}"

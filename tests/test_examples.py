"""The examples of Hugging Face's page on ALBERT, in NumPy's terms, which stand in docstrings."""

import doctest
import warnings

import pytest

import albert_np
from albert_np import config, models
from albert_np.pipelines import masks

EXAMPLES = {
    test.name: test
    for module in (config, models, masks)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module)
    if test.examples
}


def test_every_class_of_the_page_has_one():
    names = {name.rpartition(".")[2] for name in EXAMPLES}
    public = {name for name in albert_np.__all__ if name.startswith("Albert")}
    classes = {name for name in public if "Tokenizer" not in name}
    assert names == classes | {"fill_mask"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name):
    printed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of heads that are drawn anew
        failed, attempted = doctest.DocTestRunner().run(EXAMPLES[name], out=printed.append)
    assert attempted
    assert not failed, "".join(printed)

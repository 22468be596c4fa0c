"""What the garbage collector is told of imports."""

import gc

import pytest

from fastfork.garbage import THRESHOLD, made_to_stay


@pytest.fixture(autouse=True)
def before():
    threshold = gc.get_threshold()
    yield threshold
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_collections_are_rare_within(before):
    with made_to_stay():
        assert gc.get_threshold() == (THRESHOLD, *before[1:])
    assert gc.get_threshold() == before


def test_what_was_made_is_frozen():
    with made_to_stay():
        made = [[]]
    assert not any(one is made for one in gc.get_objects())


def test_what_is_set_within_holds():
    with made_to_stay():
        gc.set_threshold(5, 6, 7)
    assert gc.get_threshold() == (5, 6, 7)


def test_an_import_that_fails(before):
    with pytest.raises(ImportError), made_to_stay():
        raise ImportError
    assert gc.get_threshold() == before

"""The linked list against a plain list that does the same."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from postfixpy.services.queue_manager.links import Links

STEPS = st.lists(st.tuples(st.sampled_from(["insert", "before", "remove", "rotate"]), st.integers(0, 30)), max_size=60)


@given(STEPS)
def test_behaves_like_a_list(steps: list[tuple[str, int]]) -> None:
    links: Links[int] = Links()
    model: list[int] = []
    for count, (what, number) in enumerate(steps):
        item = 100 + count
        where = model[number % len(model)] if model else None
        if what == "insert" or where is None:
            links.insert(item)
            model.append(item)
        elif what == "before":
            links.insert(item, where)
            model.insert(model.index(where), item)
        elif what == "remove":
            links.remove(where)
            model.remove(where)
        else:
            links.rotate(where)
            at = model.index(where) + 1
            model = model[at:] + model[:at]
        assert list(links) == model
        assert len(links) == len(model)
        assert bool(links) == bool(model)
        assert (links.first, links.last) == ((model[0], model[-1]) if model else (None, None))
        for left, right in itertools.pairwise(model):
            assert links.after(left) == right
            assert links.before(right) == left


def test_removal_while_iterating() -> None:
    links: Links[int] = Links()
    for item in range(5):
        links.insert(item)
    for item in links:
        links.remove(item)
    assert not links
    assert 3 not in links

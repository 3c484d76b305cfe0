"""A linked list that finds its items by identity: everything but iteration is O(1).

The scheduler moves jobs in front of other jobs, and goes round transports and destinations, thousands of times a
second in lists of thousands; `list` would search and shift each time.
"""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Links(Generic[T]):
    """An ordered set with insertion anywhere. Items are unique and not None."""

    __slots__ = ("_next", "_previous")

    def __init__(self) -> None:
        # None is both ends of the list.
        self._next: dict[T | None, T | None] = {None: None}
        self._previous: dict[T | None, T | None] = {None: None}

    def __len__(self) -> int:
        return len(self._next) - 1

    def __bool__(self) -> bool:
        return len(self._next) > 1

    def __contains__(self, item: T) -> bool:
        return item in self._next

    def __iter__(self) -> Iterator[T]:
        """From first to last. The item that was just yielded may be removed meanwhile."""
        item = self._next[None]
        while item is not None:
            following = self._next[item]
            yield item
            item = following

    @property
    def first(self) -> T | None:
        """The first item, None when there is none."""
        return self._next[None]

    @property
    def last(self) -> T | None:
        """The last item, None when there is none."""
        return self._previous[None]

    def after(self, item: T) -> T | None:
        """What follows `item`, None at the end."""
        return self._next[item]

    def before(self, item: T) -> T | None:
        """What precedes `item`, None at the beginning."""
        return self._previous[item]

    def insert(self, item: T, before: T | None = None) -> None:
        """Put `item` in front of `before`; None: at the end."""
        assert item not in self._next
        previous = self._previous[before]
        self._next[previous] = self._previous[before] = item
        self._next[item], self._previous[item] = before, previous

    def remove(self, item: T) -> None:
        """Take `item` out."""
        following, previous = self._next.pop(item), self._previous.pop(item)
        self._next[previous], self._previous[following] = following, previous

    def rotate(self, item: T) -> None:
        """Turn the list so that `item` is last and what followed it is first: round robin."""
        following = self._next[item]
        if following is None:
            return
        first, last = self._next[None], self._previous[None]
        assert first is not None and last is not None
        self._next[last], self._previous[first] = first, last
        self._next[item], self._previous[None] = None, item
        self._next[None], self._previous[following] = following, None

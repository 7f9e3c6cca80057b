from services.gateway.bus.pages import CACHE_BYTES, PageCache
from services.gateway.core.log import PAGE_EVENTS, Entry, Life, Page

LIFE = Life("MARKET", "0mywpiww0")
PAGES = 100


def page(place: int, life: Life = LIFE) -> Page:
    """The page of one block: two events of 200 KB."""
    low = place * PAGE_EVENTS
    entries = [Entry(life, low + one, 0, ("k",), "A", False, b"x" * 200_000) for one in (1, 2)]
    return Page(low, low + PAGE_EVENTS, entries)


def test_frames_made_of_a_page_in_memory_count_until_it_is_forgotten() -> None:
    cache = PageCache()
    for place in range(PAGES):
        cache.keep(LIFE, page(place))
        found = cache.find(LIFE, place * PAGE_EVENTS)
        assert found is not None
        for entry in found.entries:
            for channel in ("order:o", "buyer:b", "node:n"):
                entry.frame(channel)
    held = [found for place in range(PAGES) if (found := cache.find(LIFE, place * PAGE_EVENTS)) is not None]
    largest = max(one.meter.bytes for one in held)
    assert sum(one.meter.bytes for one in held) <= CACHE_BYTES + largest
    assert cache.find(LIFE, (PAGES - 1) * PAGE_EVENTS) is held[-1]


def test_a_page_that_is_replaced_or_of_another_life_counts_no_more() -> None:
    cache, other = PageCache(), Life("MARKET", "0mywpiww1")
    for _ in range(PAGES):
        cache.keep(LIFE, page(7))
    for place in range(3):
        cache.keep(LIFE, page(place))
    assert all(cache.find(LIFE, place * PAGE_EVENTS) is not None for place in (0, 1, 2, 7))
    for place in range(3):
        cache.keep(other, page(place, other))
    assert all(cache.find(other, place * PAGE_EVENTS) is not None for place in range(3))
    assert cache.find(other, 7 * PAGE_EVENTS) is None

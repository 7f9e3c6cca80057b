"""Shared pages in memory: what several replays read of a stream below the log, read once."""

from collections import OrderedDict

from services.gateway.core.log import PAGE_EVENTS, Life, Meter, Page

# What shared pages may hold in memory, frames included.
CACHE_BYTES = 32 * 1024 * 1024


class PageCache:
    """Shared pages in memory, the least lately used forgotten first; what lies below the log never changes."""

    def __init__(self) -> None:
        # Start of a block of `PAGE_EVENTS` sequences -> the pages that begin in it, in order.
        self._blocks: OrderedDict[int, list[Page]] = OrderedDict()
        self._life: Life | None = None
        # Of all pages, with the frames that are made of them while they are here.
        self._meter = Meter()

    def find(self, life: Life, after: int) -> Page | None:
        """The page that holds `after` + 1."""
        for page in self._of(life, after):
            if page.low <= after < page.high:
                return page
        return None

    def start(self, life: Life, after: int) -> int:
        """Where to begin reading so that the page serves others near `after` too."""
        return max((page.high for page in self._of(life, after) if page.high <= after), default=_block(after))

    def keep(self, life: Life, page: Page) -> None:
        """Remember a page; a shorter one that begins at the same place is replaced."""
        pages = self._of(life, page.low)
        for old in [old for old in pages if old.low == page.low]:
            pages.remove(old)
            old.meter.leave()
        pages.append(page)
        self._blocks[_block(page.low)] = pages
        self._blocks.move_to_end(_block(page.low))
        page.meter.join(self._meter)
        while self._meter.bytes > CACHE_BYTES and len(self._blocks) > 1:
            _, forgotten = self._blocks.popitem(last=False)
            for old in forgotten:
                old.meter.leave()

    def _of(self, life: Life, after: int) -> list[Page]:
        if life is not self._life:
            self._blocks.clear()
            self._life, self._meter = life, Meter()
        return self._blocks.get(_block(after), [])


def _block(sequence: int) -> int:
    return sequence - sequence % PAGE_EVENTS

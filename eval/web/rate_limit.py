"""How often somebody may ask: a sliding window in memory, forgotten when the server ends."""

import threading
import time
from collections import OrderedDict, deque

MOST_KEYS = 10_000  # of which windows are kept; the one that was quiet longest goes first


class RateLimit:
    """At most `most` events of a key in any `seconds`. Safe for several threads; memory is bounded by MOST_KEYS * most times."""

    def __init__(self, most: int, seconds: float = 60.0) -> None:
        self.most, self.seconds = most, seconds
        self._events: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str, now: float | None = None) -> float:
        """Seconds until the key may come again; 0 if it may now. Counts nothing."""
        now = time.monotonic() if now is None else now
        with self._lock:
            return self._wait(self._window(key, now), now)

    def take(self, key: str, now: float | None = None) -> float:
        """As `wait`, and counts this event where it may come. A refused event does not prolong the wait."""
        now = time.monotonic() if now is None else now
        with self._lock:
            window = self._window(key, now)
            wait = self._wait(window, now)
            if wait == 0:
                window.append(now)
                self._events[key] = window
                self._events.move_to_end(key)
                while len(self._events) > MOST_KEYS:
                    self._events.popitem(last=False)
            return wait

    def _window(self, key: str, now: float) -> deque[float]:
        window = self._events.get(key, deque())
        while window and window[0] <= now - self.seconds:
            window.popleft()
        if not window:
            self._events.pop(key, None)
        return window

    def _wait(self, window: deque[float], now: float) -> float:
        return 0.0 if len(window) < self.most else window[0] + self.seconds - now

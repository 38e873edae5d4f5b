"""From the source's thread to the screen."""

import threading
from itertools import islice

from vramtop.core.fleet import Fleet, reduce
from vramtop.sources.fake import snapshots
from vramtop.tui.feed import Feed


class Burst:
    """Delivers everything at once, from a thread of its own."""

    period_s = 1.0

    def __init__(self, given):
        self.given = given

    def start(self, deliver):
        thread = threading.Thread(target=lambda: [deliver(snapshot) for snapshot in self.given])
        thread.start()
        thread.join()

    def stop(self):
        pass


def test_a_burst_is_one_message_and_nothing_of_it_is_lost():
    given = list(islice(snapshots("training"), 20))
    told = []
    feed = Feed(Burst(given), lambda: told.append(1))
    feed.start()
    assert told == [1]
    by_hand = Fleet()
    for snapshot in given:
        by_hand = reduce(by_hand, snapshot)
    fleet = feed.drain(Fleet())
    assert fleet.snapshot.taken_at == given[-1].taken_at
    assert {key: len(h) for key, h in fleet.histories.items()} == {
        key: len(h) for key, h in by_hand.histories.items()
    }
    assert feed.drain(fleet) is fleet
    feed.start()
    assert told == [1, 1]

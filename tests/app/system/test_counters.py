"""Workers are forked; the processes of these tests are too."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.system.counters import Ledger
from tests.support.forks import in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def samples(ledger: Ledger) -> dict[tuple[str, ...], float]:
    """Name and values of the labels → value, as a scrape shows it."""
    registry = CollectorRegistry()
    registry.register(ledger)
    text = generate_latest(registry).decode()
    families = text_string_to_metric_families(text)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_what_is_counted_is_scraped_by_label(ledger: Ledger) -> None:
    requests = ledger.counter("requests", "Answered", "route", "status")
    requests.cell("/embed", "200").add()
    requests.cell("/embed", "200").add(2)
    requests.cell("/embed", "404").add()
    ledger.gauge("waiting", "Rows").cell().set(7)
    assert samples(ledger) == {
        ("requests_total", "/embed", "200"): 3,
        ("requests_total", "/embed", "404"): 1,
        ("waiting",): 7,
    }


def test_a_value_on_an_edge_belongs_to_the_bucket_below(ledger: Ledger) -> None:
    seconds = ledger.histogram("seconds", "Time", "route", edges=(0.5, 2.0)).distribution("/embed")
    for value in (0.1, 0.5, 1.0, 2.0, 3.0):
        seconds.observe(value)
    assert samples(ledger) == {
        ("seconds_bucket", "0.5", "/embed"): 2,
        ("seconds_bucket", "2.0", "/embed"): 4,
        ("seconds_bucket", "+Inf", "/embed"): 5,
        ("seconds_count", "/embed"): 5,
        ("seconds_sum", "/embed"): pytest.approx(6.6),
    }


def test_a_scrape_in_any_process_shows_the_sum_of_all(ledger: Ledger) -> None:
    rows, waiting = ledger.counter("rows", "Computed"), ledger.gauge("waiting", "Rows")
    known = rows.cell()
    ledger.share(3)
    expected = {("rows_total",): 10 + 20, ("waiting",): 1 + 2}

    def work(number: int) -> None:
        ledger.take(number)
        known.add(10 * number)
        waiting.cell().set(number)  # a name that only the workers know
        if number == 2:
            assert samples(ledger) == expected

    in_child(lambda: work(1))
    in_child(lambda: work(2))
    assert samples(ledger) == expected


def test_a_worker_goes_on_where_the_one_before_it_died_but_holds_nothing(ledger: Ledger) -> None:
    rows, waiting = ledger.counter("rows", "Computed", "model"), ledger.gauge("waiting", "Rows")
    ledger.share(2)

    def work() -> None:
        ledger.take(1)
        rows.cell("melee").add(5)
        waiting.cell().add()

    in_child(work)
    assert ledger.sheets[1].pid != 0
    ledger.leave(1)
    assert ledger.sheets[1].pid == 0
    assert samples(ledger) == {("rows_total", "melee"): 5, ("waiting",): 0}
    in_child(work)
    assert samples(ledger) == {("rows_total", "melee"): 10, ("waiting",): 1}


def test_its_parent_sees_that_a_worker_turns(ledger: Ledger) -> None:
    ledger.share(1)
    in_child(lambda: ledger.take(0))
    before = ledger.sheets[0].turned_at
    in_child(lambda: ledger.take(0))
    assert ledger.sheets[0].turned_at > before > 0


def test_a_parent_reads_what_one_worker_counted(ledger: Ledger) -> None:
    closed = ledger.counter("closed", "Connections").cell()
    ledger.share(2)

    def work() -> None:
        ledger.take(1)
        closed.add(3)

    in_child(work)
    assert (closed.on(0), closed.on(1)) == (0, 3)


def test_what_was_counted_before_the_fork_counts_once(ledger: Ledger) -> None:
    loads = ledger.counter("loads", "Models", "model").cell("melee")
    loads.add()
    ledger.share(3)

    def work() -> None:
        ledger.take(2)
        loads.add()

    in_child(work)
    assert samples(ledger) == {("loads_total", "melee"): 2}


@pytest.mark.parametrize(("limit", "message"), [("NAMES_BYTES", "names are longer"), ("NUMBERS", "more metrics")])
def test_more_metrics_than_there_is_memory_for_are_an_error(
    limit: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"app.system.counters.{limit}", 64)
    requests = Ledger().histogram("requests", "Answered", "route", edges=tuple(map(float, range(40))))
    requests.distribution("/a")
    with pytest.raises(MemoryError, match=message):
        requests.distribution("/" + 50 * "b")

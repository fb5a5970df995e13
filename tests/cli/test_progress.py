import pytest

from cli.progress import duration


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (61, "61 s"), (90, "90 s"), (91, "2 min"), (3600, "60 min")]
)
def test_a_duration_is_in_minutes_once_it_is_longer_than_ninety_seconds(seconds, words):
    assert duration(seconds) == words

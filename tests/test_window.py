"""Windows of work adapt to what they take."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.embedding.missing import FEWEST, FIRST, MOST
from nv_retriever.window import WindowSize


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(100, 3e5), length=st.integers(1, 5000))
def test_a_window_takes_about_twenty_seconds_whatever_the_model(rate, length):
    now, seconds = [0.0], []
    size = WindowSize(FIRST, FEWEST, MOST, lambda: now[0])
    ahead = size.units
    for _ in range(20):
        characters, ahead = max(ahead // length, 1) * length, size.units  # the next one is tokenised meanwhile
        seconds.append(characters / rate)
        now[0] += seconds[-1]
        size.measure(characters)
    one = max(length, FEWEST) / rate
    assert max(seconds) <= max(seconds[0], 22.0, one)
    assert max(seconds[8:]) <= max(22.0, one)
    assert min(seconds[8:]) >= 0.7 * min(20.0, MOST / rate) - length / rate

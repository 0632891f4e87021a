import time
from email.utils import formatdate

import pytest

from nv_retriever.retries import retry_after

PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("soon", None), ("7", 7), ("0", 0), ("0.5", 0.5), ("-3", 0), ("nan", 0), (PAST, 0)],
)
def test_seconds(header, seconds):
    assert retry_after(header) == seconds


def test_a_date_to_come():
    assert 90 < retry_after(formatdate(time.time() + 100, usegmt=True)) <= 100

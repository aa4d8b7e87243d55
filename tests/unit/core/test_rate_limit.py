"""What servers state of their limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.rate_limit import StatedLimit, stated_limit

NOW_S = 1_764_000_000.0


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        # draft-ietf-httpapi-ratelimit-headers-10.
        ({"ratelimit": '"default";r=50;t=30'}, StatedLimit(50, 30.0)),
        (
            {"ratelimit": '"default";r=2;t=30', "ratelimit-policy": '"default";q=100;w=60'},
            StatedLimit(2, 30.0, 100, 60),
        ),
        ({"ratelimit": '"a, b";r=1', "ratelimit-policy": '"a, b";q=10;w=5'}, StatedLimit(1, 5.0, 10, 5)),
        (
            {
                "ratelimit": "permin;r=20;t=23, perhr;r=3;t=2402",
                "ratelimit-policy": "permin;q=50;w=60, perhr;q=1000;w=3600",
            },
            StatedLimit(3, 2402.0, 1000, 3600),
        ),
        ({"ratelimit": '"b";r=0;t=9', "ratelimit-policy": '"b";q=65535;qu="content-bytes";w=10'}, None),
        # The drafts from 03 to 07.
        (
            {"ratelimit": "limit=100, remaining=5, reset=54", "ratelimit-policy": "100;w=60"},
            StatedLimit(5, 54.0, 100, 60),
        ),
        (
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "5", "ratelimit-reset": "54"},
            StatedLimit(5, 54.0, 100),
        ),
        # GitHub, whose reset is a time.
        (
            {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1764000090"},
            StatedLimit(0, 90.0, 60),
        ),
        (
            {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1763999000"},
            StatedLimit(0, 0.0, 60),
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1764000090000"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"ratelimit": '"default";r=x;t=30'}, None),
        ({"ratelimit": '"default";r=-1;t=30'}, None),
        ({"ratelimit": ""}, None),
        ({}, None),
    ],
)
def test_it_is_read_from_each_form_of_the_fields(fields: dict[str, str], limit: StatedLimit | None) -> None:
    assert stated_limit(fields.get, NOW_S) == limit


@given(
    st.dictionaries(
        st.sampled_from(["ratelimit", "ratelimit-policy", "ratelimit-reset", "x-ratelimit-remaining"]),
        st.text(max_size=60),
    )
)
def test_nothing_that_a_server_sends_is_an_error(fields: dict[str, str]) -> None:
    limit = stated_limit(fields.get, NOW_S)
    assert limit is None or (limit.remaining >= 0 and limit.reset_s >= 0)

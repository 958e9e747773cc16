"""Buckets, and which of them differ."""

from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.reconciliation.digests import (
    BUCKET_KEYS,
    NULL_BUCKET,
    HashBuckets,
    RangeBuckets,
    differing,
    differing_in_order,
    finer_buckets,
    first_buckets,
    key_ranges,
)

digests = st.dictionaries(st.integers(-5, 20), st.tuples(st.integers(1, 3), st.integers(0, 3)))


@given(digests, digests)
def test_a_stream_of_digests_differs_where_they_all_do(
    source: dict[int, tuple[int, int]], target: dict[int, tuple[int, int]]
) -> None:
    in_order = differing_in_order(
        [(bucket, *source[bucket]) for bucket in sorted(source)],
        [(bucket, *target[bucket]) for bucket in sorted(target)],
    )
    at_once = differing(source, target)

    assert list(in_order.buckets) == list(at_once.buckets)
    assert in_order.rows == at_once.rows
    assert set(at_once.buckets) == {b for b in source | target if source.get(b) != target.get(b)}


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 60))
def test_a_range_holds_the_keys_of_its_bucket(key: int, shift: int) -> None:
    ranges = key_ranges([key >> shift], shift)

    assert ranges == [] if key >> shift == NULL_BUCKET else any(first <= key <= last for first, last in ranges)
    assert all(-(2**63) <= first <= last < 2**63 and last - first < 2**shift for first, last in ranges)


def test_ranges_that_touch_are_one() -> None:
    assert key_ranges([NULL_BUCKET, -1, 0, 1, 5], 4) == [(-16, 31), (80, 95)]


def test_buckets_are_as_large_as_rows_are_dense() -> None:
    assert first_buckets(3_000_000, (1, 3_000_000)) == RangeBuckets(BUCKET_KEYS.bit_length() - 1)
    assert first_buckets(1_000, (1, 1_024_000)) == RangeBuckets(BUCKET_KEYS.bit_length() - 1 + 10)
    assert first_buckets(BUCKET_KEYS * 1024, None) == HashBuckets(10)
    assert first_buckets(0, None) == HashBuckets(0)


def test_finer_buckets_come_down_to_single_keys() -> None:
    assert finer_buckets(RangeBuckets(8), 256_000, 1_000) == RangeBuckets(4)
    assert finer_buckets(RangeBuckets(4), 16_000, 1_000) == RangeBuckets(0)
    assert finer_buckets(HashBuckets(0), 1_600_000, 1) == HashBuckets(17)
    assert RangeBuckets(0).finest
    assert HashBuckets(59).finer(5).finest

"""Buckets of keys, their digests, and which of them have to be looked at more closely.

A digest is the number of a bucket's rows and the sum of their hashes; a sum, because XOR would lose rows that are there
twice. Digests that differ say nothing yet about a row, and digests that are equal say that the bucket is equal.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

BUCKET_KEYS = 256
"""Keys of a bucket of the first pass."""
FINE_KEYS = 16
"""Keys of a bucket of a finer pass, while more than single keys are left to be told apart."""
READ_AT_ONCE = 20_000
"""Rows that are read without a finer pass before."""
NULL_BUCKET = -(2**63)
"""Bucket of rows whose integer key is NULL."""

_HASH_BITS = 60
_SMALLEST_KEY, _LARGEST_KEY = -(2**63), 2**63 - 1

Digest = tuple[int, int]
"""Rows, sum of their hashes."""


@dataclass(frozen=True)
class RangeBuckets:
    """Keys are integers; a bucket holds the 2**shift keys from ``bucket << shift`` on."""

    shift: int

    @property
    def finest(self) -> bool:
        """Whether a bucket is a single key."""
        return self.shift == 0

    def finer(self, bits: int) -> "RangeBuckets":
        """Return buckets 2**bits times as small."""
        return RangeBuckets(max(0, self.shift - bits))


@dataclass(frozen=True)
class HashBuckets:
    """A bucket holds the keys whose hash ends in the same bits."""

    bits: int

    @property
    def finest(self) -> bool:
        """Whether buckets cannot get smaller."""
        return self.bits == _HASH_BITS

    @property
    def mask(self) -> int:
        """What a hash is masked with."""
        return (1 << self.bits) - 1

    def finer(self, bits: int) -> "HashBuckets":
        """Return buckets 2**bits times as small."""
        return HashBuckets(min(_HASH_BITS, self.bits + bits))


Buckets = RangeBuckets | HashBuckets


@dataclass(frozen=True)
class Selection:
    """Buckets to look at.

    Args:
        of: what the numbers are buckets of.
        buckets: their numbers, in order.
        share: of all rows, 0 to 1, roughly.
    """

    of: Buckets
    buckets: Sequence[int]
    share: float


@dataclass(frozen=True)
class Differing:
    """Buckets whose digests differ, in order.

    Args:
        rows: in them, on both sides together.
    """

    buckets: Sequence[int]
    rows: int


def first_buckets(rows: int, span: tuple[int, int] | None) -> Buckets:
    """Return the buckets of a first pass.

    Args:
        rows: roughly, of the larger side.
        span: least and largest key where both are integers and ranges of them can be read; else keys are hashed.
    """
    if span is None:
        return HashBuckets(_bits(rows / BUCKET_KEYS))
    return RangeBuckets(_bits((span[1] - span[0] + 1) / max(1, rows) * BUCKET_KEYS))


def finer_buckets(buckets: Buckets, rows: int, count: int) -> Buckets:
    """Return the buckets of the next pass over some buckets that differ.

    Args:
        rows: of one side, in these buckets.
        count: of the buckets.
    """
    average = rows / max(1, count)
    return buckets.finer(max(1, _bits(average / (FINE_KEYS if average > 4 * FINE_KEYS else 1))))


def differing(source: Mapping[int, Digest], target: Mapping[int, Digest]) -> Differing:
    """Return the buckets whose digests differ."""
    found = sorted(
        bucket for bucket in source.keys() | target.keys() if source.get(bucket, (0, 0)) != target.get(bucket, (0, 0))
    )
    rows = sum(source.get(bucket, (0, 0))[0] + target.get(bucket, (0, 0))[0] for bucket in found)
    return Differing(array("q", found), rows)


def differing_in_order(source: Iterable[tuple[int, int, int]], target: Iterable[tuple[int, int, int]]) -> Differing:
    """Return the buckets whose digests differ, of streams of (bucket, rows, sum) in the order of buckets."""
    found, rows = array("q"), 0
    for bucket, left, right in in_step(source, target):
        if left != right:
            found.append(bucket)
            rows += sum(digest[0] for digest in (*left, *right))
    return Differing(found, rows)


def in_step(
    source: Iterable[tuple[int, int, int]], target: Iterable[tuple[int, int, int]]
) -> Iterator[tuple[int, tuple[Digest, ...], tuple[Digest, ...]]]:
    """Yield (bucket, digest of the source, digest of the target); a side without the bucket has none."""
    left_stream, right_stream = iter(source), iter(target)
    left, right = next(left_stream, None), next(right_stream, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield left[0], (left[1:],), ()
            left = next(left_stream, None)
        elif left is None or right[0] < left[0]:
            yield right[0], (), (right[1:],)
            right = next(right_stream, None)
        else:
            yield left[0], (left[1:],), (right[1:],)
            left, right = next(left_stream, None), next(right_stream, None)


def key_ranges(buckets: Sequence[int], shift: int) -> list[tuple[int, int]]:
    """Return the keys of range buckets as (first, last), adjacent ones joined; the bucket of NULL is left out."""
    ranges: list[tuple[int, int]] = []
    for bucket in buckets:
        if bucket == NULL_BUCKET:
            continue
        first = max(_SMALLEST_KEY, bucket << shift)
        last = min(_LARGEST_KEY, ((bucket + 1) << shift) - 1)
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
    return ranges


def _bits(number: float) -> int:
    """Return the power of two that is nearest to a number, at least 0 and at most 60."""
    return min(_HASH_BITS, max(0, round(math.log2(number)))) if number > 1 else 0

"""Fact → one paragraph that a person understands at 3 a.m."""

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, cast

from incident_pipelines.core.retention import duration_text
from incident_pipelines.core.signals import Fact


def summarize(fact: Fact) -> str:
    """Return what happened, where, the exact range, what the system did, and what to do next.

    Never fails, whatever the detail holds: a fact that cannot be told well must still be told.
    """
    try:
        return _SUMMARIES.get(fact.kind, _unknown)(fact)
    except (ValueError, TypeError, OverflowError, RecursionError):  # a detail that cannot be put into words
        return _unknown(fact)


def _aged_out(fact: Fact) -> str:
    topic, partition = _said(fact, "topic"), _said(fact, "partition")
    return (
        f"Data loss: {topic}[{partition}] had dropped offsets {_said(fact, 'from_offset')} up to, not with, "
        f"{_said(fact, 'to_offset')} before they were landed in {fact.dataset}: at most "
        f"{_said(fact, 'records_at_most')} records, since a range also counts what is no record. "
        f"Landing wrote the range to landing.gaps and goes on from offset {_said(fact, 'to_offset')}; newer events are "
        f"not affected. Next: see with `incident-pipelines landing status` whether another partition is next; "
        f"lengthen the topic's retention until the lag is gone; then bring the range back from another source that the "
        f"contract of {fact.dataset} names."
    )


def _recreated(fact: Fact) -> str:
    topic = _said(fact, "topic")
    before = f" (id {fact.detail['known_topic_id']})" if "known_topic_id" in fact.detail else ""
    return (
        f"Topic {topic}{before} was deleted and made again (id {_said(fact, 'topic_id')}). Landing of {fact.dataset} "
        f"has stopped at {_stored(fact)}: nothing of the new topic is in the log, and what the old one held from there "
        f"on can no longer be read. Other topics go on. Next: find out who did it and why; then "
        f"`incident-pipelines landing resume {topic} --from start` lands the new topic under a new origin; what the "
        f"old one lost comes from another source that the contract of {fact.dataset} names."
    )


def _beyond_end(fact: Fact) -> str:
    topic, partition = _said(fact, "topic"), _said(fact, "partition")
    return (
        f"{topic}[{partition}] ends at offset {_said(fact, 'log_end')}, but {fact.dataset} is landed up to "
        f"{_said(fact, 'next')} already: the topic lost its end (an unclean restart of the broker, a restored disk) or "
        f"the stored offset was changed. Landing of this partition has stopped; the others go on. Next: find out "
        f"which; then `incident-pipelines landing resume {topic}:{partition} --from start` lands again what it holds "
        f"(events that are known already count once), or `--from end` only what comes from now on."
    )


def _refused(fact: Fact) -> str:
    return (
        f"{fact.dataset}{_window(fact)} was not published: {_failed_rules(fact)}. What was published before stays "
        f"as it was, so readers may see old numbers or none. Next: publication.checks counts every rule of the window, "
        f"landing.dead_letters holds what landing refused; have it corrected at its source. The window is judged again "
        f"by itself as soon as its input changes."
    )


def _duplicates(fact: Fact) -> str:
    share = fact.detail.get("share")
    shown = f" ({share:.2%})" if isinstance(share, int | float) else ""
    return (
        f"{_said(fact, 'copies')} of {_said(fact, 'events')} events{shown} that {fact.dataset}{_window(fact)} got from "
        f"its topic are copies: the same event_id and content came before. Published tables hold each event once; the "
        f"log keeps all of them. Next: have whoever produces {fact.dataset} find out why it sends again what was "
        f"acknowledged (an outbox that is not marked, a retry without an idempotent producer); whoever reads the topic "
        f"by other ways has the copies."
    )


def _changed_outside(fact: Fact) -> str:
    published = (
        f"{_said(fact, 'rows_stored')} were published at {_said(fact, 'published_at')} by {_said(fact, 'published_by')}"
        if fact.detail.get("published_at")
        else "nothing was ever published there"
    )
    after = (
        "The window has been published again since, which put back what was published; readers saw the changed rows "
        "until then. Next: find out why it was done. This signal clears by itself."
        if fact.detail.get("put_back") is True
        else "Nothing was put back; readers see the changed rows. Next: find out why it was done; then start a "
        "backfill of the window, which puts back what was published and clears this signal."
    )
    return (
        f"{fact.dataset}{_window(fact)} was changed, but not by publishing: {_said(fact, 'rows_found')} rows were "
        f"found, {published}. {_statements(fact)} {after}"
    )


def _expiring(fact: Fact) -> str:
    return (
        f"{_said(fact, 'events')} events of {fact.dataset}{_window(fact)} stand in nothing but "
        f"{_listed(fact, 'sources')} any more, from where they age out, the first of them at {_said(fact, 'until')}; "
        f"{_said(fact, 'kept_elsewhere')} are kept elsewhere. Nothing was done about it. Next: see with "
        f"`incident-pipelines recoverability --dataset {fact.dataset}` who has what; lengthen the retention there; "
        f"land them. This signal clears by itself."
    )


def _unusable(fact: Fact) -> str:
    source, missing = _said(fact, "source"), fact.detail.get("missing")
    short = f": {missing} events that it should have are not in it" if missing is not None else ""
    return (
        f"The contract of {fact.dataset} names {source} as a recovery source, but it cannot replay"
        f"{_window(fact) or ' anything'}{short} ({_said(fact, 'reason')}). Nothing is lost yet; a recovery would have "
        f"to do without it. Next: mend the source or its declaration, or take it out of the contract. This signal "
        f"clears by itself."
    )


def _short_retention(fact: Fact) -> str:
    topic = _said(fact, "topic")
    return (
        f"Topic {topic} deletes records of {fact.dataset} after {_duration(fact, 'retention_ms')}, but has to keep "
        f"them for {_duration(fact, 'floor_ms')} ({_said(fact, 'floor_reason')}): somebody shortened it, or a reader "
        f"is far behind. Nothing is known to be lost yet; what is older goes within minutes. Next: see with "
        f"`incident-pipelines topics list` whether it was put back; if not, `incident-pipelines topics apply {topic} "
        f"--retention …`; then find out who changed it. This signal clears by itself."
    )


def _stalled(fact: Fact) -> str:
    return (
        f"Nothing of topic {_said(fact, 'topic')} was landed in {fact.dataset} since {_said(fact, 'since')}, although "
        f"{_said(fact, 'lag')} offsets wait in partitions {_listed(fact, 'partitions')}. They stay in the topic until "
        f"its retention is over. Next: `incident-pipelines status` shows whether the lander runs, its log in the state "
        f"directory why it does not land; start it again. This signal clears by itself once landing moves."
    )


def _rising(fact: Fact) -> str:
    return (
        f"Landing of topic {_said(fact, 'topic')} in {fact.dataset} moves, but its lag has not fallen since "
        f"{_said(fact, 'since')}: {_said(fact, 'lag')} offsets wait in partitions {_listed(fact, 'partitions')}. No "
        f"event is lost while the topic keeps them; readers see them late. Next: see whether the warehouse is slow or "
        f"more arrives than usual; run more landers. This signal clears by itself."
    )


def _near_retention(fact: Fact) -> str:
    return (
        f"The next record of topic {_said(fact, 'topic')} to be landed in {fact.dataset} is "
        f"{_said(fact, 'lag_seconds')} s old, and the topic deletes records after {_duration(fact, 'retention_ms')}: "
        f"more than half of that is used up in partitions {_listed(fact, 'partitions')}. Next: lengthen the retention "
        f"with `incident-pipelines topics apply`, then let landing catch up. This signal clears by itself."
    )


def _undone(fact: Fact) -> str:
    return (
        f"{_said(fact, 'missing')} events of {fact.dataset}{_window(fact)} are missing again, more than the loss that "
        f"{_said(fact, 'incident_id')} has stated after its recovery. Next: the events are looked for again by "
        f"themselves; find out who takes rows out of the landing log, or declares more than was sent. This signal "
        f"clears by itself."
    )


def _run_failed(fact: Fact) -> str:
    job = _said(fact, "job")
    return (
        f"Job {job} fails: its run {_said(fact, 'run_id')} ended at {fact.recorded_at.astimezone(UTC):%Y-%m-%d %H:%M} "
        f"UTC with: {_said(fact, 'problem')}. What had been done by then stays, and the rest is not done until a run "
        f"succeeds; nothing wrong was published by it. Next: look at the run in Dagster, mend what it names, then run "
        f"{job} again or wait for its schedule. This signal clears by itself once a run succeeds."
    )


def _unknown(fact: Fact) -> str:
    return (
        f"{fact.kind} was recorded for {fact.dataset}{_window(fact)}: a kind of fact this version cannot explain. "
        f"Nothing was done about it. Next: read its detail, and run the version of incident-pipelines that wrote it."
    )


_SUMMARIES: Mapping[str, Callable[[Fact], str]] = {
    "offsets_aged_out": _aged_out,
    "topic_recreated": _recreated,
    "offset_beyond_end": _beyond_end,
    "window_refused": _refused,
    "duplicate_events": _duplicates,
    "window_changed_outside": _changed_outside,
    "only_copy_expiring": _expiring,
    "recovery_source_unusable": _unusable,
    "recovery_undone": _undone,
    "retention_below_floor": _short_retention,
    "landing_stalled": _stalled,
    "landing_lag_rising": _rising,
    "landing_lag_near_retention": _near_retention,
    "run_failed": _run_failed,
}


def _said(fact: Fact, name: str) -> str:
    value = fact.detail.get(name)
    return f"(no {name} given)" if value is None else str(value)


def _duration(fact: Fact, name: str) -> str:
    value = fact.detail.get(name)
    return duration_text(value) if isinstance(value, int) else _said(fact, name)


def _listed(fact: Fact, name: str) -> str:
    values = fact.detail.get(name)
    return ", ".join(map(str, cast(list[Any], values))) if isinstance(values, list) else _said(fact, name)


def _window(fact: Fact) -> str:
    if fact.window_start is None:
        return ""
    end = "" if fact.window_end is None else f" to {fact.window_end.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f" {fact.window_start.astimezone(UTC):%Y-%m-%d %H:%M}{end} UTC"


def _stored(fact: Fact) -> str:
    offsets = fact.detail.get("stored_offsets")
    if not isinstance(offsets, dict) or not offsets:
        return "offsets that were not given"
    named = cast(dict[str, Any], offsets)
    return ", ".join(f"offset {named[number]} of partition {number}" for number in sorted(named, key=_numerically))


def _numerically(number: str) -> tuple[int, str]:
    return len(number), number


def _statements(fact: Fact) -> str:
    statements = fact.detail.get("statements")
    texts = (
        [
            f"{one.get('statement', '?')} (rows: {one.get('rows', '?')}) by {one.get('user_name', '?')} "
            f"({one.get('application_name') or 'no application named'}, {one.get('client_address') or 'local'}) "
            f"at {one.get('changed_at', '?')}"
            for one in (cast(dict[str, Any], item) for item in cast(list[Any], statements) if isinstance(item, dict))
        ]
        if isinstance(statements, list)
        else []
    )
    if not texts:
        return "Who did it was not recorded: its triggers were off, or the table was not protected yet."
    return f"Statements on the table since then, the latest first: {'; '.join(texts)}."


def _failed_rules(fact: Fact) -> str:
    rules = fact.detail.get("failed_rules")
    texts = (
        [_failed(cast(dict[str, Any], rule)) for rule in cast(list[Any], rules) if isinstance(rule, dict)]
        if isinstance(rules, list)
        else []
    )
    return "; ".join(texts) or "which rule it broke was not given"


def _failed(rule: Mapping[str, Any]) -> str:
    share, allowed = rule.get("share"), rule.get("max_share")
    shares = (
        f" ({share:.2%}, at most {allowed:.2%} may)"
        if isinstance(share, float | int) and isinstance(allowed, float | int)
        else ""
    )
    return f"{rule.get('unexpected', '?')} of {rule.get('rows', '?')} rows break {rule.get('rule', '?')}{shares}"

"""What a game day does as a person: it agrees to plans that wait for one, as those of a closed month always do."""

from datetime import datetime

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.incidents import read_incident
from incident_pipelines.adapters.stores.incidents_work import StoredPlan, latest_plan
from incident_pipelines.core.errors import IllegalTransition, IncidentConflict
from incident_pipelines.core.incidents.incident import Actor, State
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.example.gameday.measure import Course
from incident_pipelines.stages.incidents.by_hand import approve

PERSON = Actor("person", "game day")


def approve_waiting_plans(control: Engine, course: Course, since: datetime, now: datetime) -> list[str]:
    """Agree to each plan of a game day's incidents that waits for a person; return what was agreed to, a line each.

    Args:
        since: when the fault was made; who agrees to an older plan is not for a game day to say.
    """
    told: list[str] = []
    for incident_id in course.incidents:
        with available("control database"), control.connect() as connection:
            state = read_incident(connection, incident_id).state
            plan = latest_plan(connection, incident_id)
        if plan is None or not waits_for_game_day(state, plan, since):
            continue
        try:
            approve(control, incident_id, PERSON, now, plan.digest)
        except (IllegalTransition, IncidentConflict):
            continue  # more is affected by now: another plan is on its way
        reasons = "; ".join(plan_of(plan.body).approval)
        told.append(f"plan {plan.digest[:12]} of {incident_id} is approved as `{PERSON}`: {reasons}")
    return told


def waits_for_game_day(state: State, plan: StoredPlan, since: datetime) -> bool:
    """Return whether a plan was made for the fault of a game day, and waits for its approval."""
    return state == "awaiting_approval" and plan.approved_at is None and plan.made_at >= since

"""Where events can be read again, one file each; a source is added here and named by a contract."""

from collections.abc import Mapping

from incident_pipelines.adapters.recovery_sources.audit_log import AuditLogSource
from incident_pipelines.adapters.recovery_sources.database_extract import DatabaseExtractSource
from incident_pipelines.adapters.recovery_sources.kafka import KafkaSource
from incident_pipelines.adapters.recovery_sources.landing_log import LandingLogSource
from incident_pipelines.adapters.recovery_sources.source import RecoverySource
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.recovery.coverage import AUDIT_LOG, DATABASE_EXTRACT, KAFKA, LANDING_LOG


def recovery_sources(catalog: Catalog, environment: Mapping[str, str]) -> dict[str, RecoverySource]:
    """Return all sources by the name that contracts use; nothing is connected to before it is read.

    Args:
        environment: WAREHOUSE_URL, KAFKA_BOOTSTRAP_SERVERS, and the variables that the catalog names.
    """
    return {
        LANDING_LOG: LandingLogSource(catalog, environment),
        KAFKA: KafkaSource(catalog, environment),
        DATABASE_EXTRACT: DatabaseExtractSource(catalog, environment),
        AUDIT_LOG: AuditLogSource(catalog, environment),
    }

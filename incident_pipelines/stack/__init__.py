"""The local stack: embedded PostgreSQL, Apache Kafka and the platform's processes under supervisord."""

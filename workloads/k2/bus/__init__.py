"""Kafka and the Schema Registry. The only package that imports `confluent_kafka`."""

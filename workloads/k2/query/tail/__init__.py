"""Rows that the topics hold beyond the tables, kept in memory. Of the queries this room alone knows Kafka."""

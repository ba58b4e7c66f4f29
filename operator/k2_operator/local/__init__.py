"""The platform on one machine without Kubernetes: Kafka and a registry as child processes, and the built objects run beside them."""

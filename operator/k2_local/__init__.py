"""The platform on one machine without Kubernetes, with the operator's own plans and manifests: `k2 up` and the commands around it."""

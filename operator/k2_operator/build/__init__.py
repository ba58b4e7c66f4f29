"""Plans to manifests: pure functions, and the closed subset of a pod that both executors understand."""

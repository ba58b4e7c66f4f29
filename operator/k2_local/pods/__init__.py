"""Built Deployments, Jobs and CronJobs as processes: the subset that is understood, and an executor for it. Knows no services."""

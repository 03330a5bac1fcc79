"""CronJob: makes Jobs on a schedule."""

"""Queues for work that can wait: quota, borrowing, fairness, preemption; Kueue's kinds and behaviour."""

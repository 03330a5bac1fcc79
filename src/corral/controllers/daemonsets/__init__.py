"""DaemonSet: one pod of a template on each machine that fits."""

"""The simulator: the scheduler's own code on a cell that is only data (the counterpart of Borg's Fauxmaster)."""

"""Machines: enrolment, health, repair."""

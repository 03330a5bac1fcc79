"""Admission: what happens between authorization and the store. One plugin per file, a chain that runs them."""

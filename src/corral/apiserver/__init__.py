"""The API: verbs over the store, and their doors HTTP and in-process."""

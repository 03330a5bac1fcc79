"""The way from pods to pods on other machines."""

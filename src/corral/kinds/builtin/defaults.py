"""Kubernetes' defaults that the published schemas do not carry (the Go packages' `defaults.go`), by definition."""

from collections.abc import Mapping
from typing import Any

from corral.kinds.schema.base import Hook

CONSTANTS: Mapping[str, Mapping[str, Any]] = {}
HOOKS: Mapping[str, Hook] = {}

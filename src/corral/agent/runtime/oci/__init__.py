"""The runtime of real containers: conmon with crun or runc, CNI, overlayfs, control groups."""

from corral.agent.runtime.oci.network import NetworkConfig, choose
from corral.agent.runtime.oci.runtime import OciRuntime

__all__ = ["NetworkConfig", "OciRuntime", "choose"]

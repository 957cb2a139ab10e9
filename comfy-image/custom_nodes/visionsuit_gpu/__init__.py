"""GET /visionsuit/gpu on ComfyUI's server: how its GPU is, by NVIDIA's management library. It adds no node.

The runner beside ComfyUI has no GPU of its own to ask. Answered like this, null for what the card or the driver does
not tell (a MIG slice has no utilisation, a desktop card no ECC):

    {"driver": "580.95.05", "uuid": "GPU-5f0c...", "name": "NVIDIA L4", "utilisation_percent": 97,
     "memory_total_bytes": 24152899584, "memory_used_bytes": 9126805504, "temperature_c": 71, "ecc_errors": 0,
     "xid_errors": [79]}

ecc_errors: uncorrectable ones since the driver was loaded. xid_errors: codes of the critical events since this server
started. Without a driver the answer is 503 with the reason; it stands in the way of nothing else.
"""

from functools import cache

import pynvml
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}  # ComfyUI skips a package that has none


class Gpu:
    """The first GPU this container sees, looked at again and again. Its methods raise NVMLError when there is none."""

    def __init__(self):
        pynvml.nvmlInit()
        self._device = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._xids = []
        self._events = told(self._register)

    def report(self):
        memory = pynvml.nvmlDeviceGetMemoryInfo(self._device)
        return {
            "driver": text(pynvml.nvmlSystemGetDriverVersion()),
            "uuid": text(pynvml.nvmlDeviceGetUUID(self._device)),
            "name": text(pynvml.nvmlDeviceGetName(self._device)),
            "utilisation_percent": told(lambda: pynvml.nvmlDeviceGetUtilizationRates(self._device).gpu),
            "memory_total_bytes": memory.total,
            "memory_used_bytes": memory.used,
            "temperature_c": told(lambda: pynvml.nvmlDeviceGetTemperature(self._device, pynvml.NVML_TEMPERATURE_GPU)),
            "ecc_errors": told(
                lambda: pynvml.nvmlDeviceGetTotalEccErrors(
                    self._device, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
                )
            ),
            "xid_errors": self._xid_errors(),
        }

    def _register(self):
        events = pynvml.nvmlEventSetCreate()
        pynvml.nvmlDeviceRegisterEvents(self._device, pynvml.nvmlEventTypeXidCriticalError, events)
        return events

    def _xid_errors(self):
        """Every critical event so far: the driver hands over one at a time, and says timeout when it has no more."""
        if self._events is None:
            return None
        while len(self._xids) < 100:
            try:
                self._xids.append(pynvml.nvmlEventSetWait_v2(self._events, 0).eventData)
            except pynvml.NVMLError:
                break
        return self._xids


def told(ask):
    """The answer, or None when this card or driver does not give it."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None


def text(said):
    """Older libraries answer in bytes."""
    return said.decode() if isinstance(said, bytes) else said


@cache
def gpu():
    return Gpu()


@PromptServer.instance.routes.get("/visionsuit/gpu")
async def report(_request):
    try:
        return web.json_response(gpu().report())
    except pynvml.NVMLError as error:
        return web.json_response({"error": str(error)}, status=503)

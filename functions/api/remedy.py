"""What a curator can do about a job that failed, by the cause it is stamped with."""

from types import MappingProxyType

_REFUNDED = "The credits have been returned."
_LATER = f"{_REFUNDED} This passes by itself: ask for the picture again in a few minutes."
_OPERATOR = f"{_REFUNDED} Choose another model or workflow, or tell an administrator."

REMEDIES = MappingProxyType(
    {
        "insufficient_credits": "Nothing was charged. Earn or ask for credits, or lower steps, size or images.",
        "spending_cap_reached": "Nothing was charged. Wait for the next day, week or month, or ask for a higher cap.",
        "out_of_memory": f"{_REFUNDED} The picture did not fit the GPU: try a smaller size or fewer images.",
        "output_too_large": f"{_REFUNDED} Try a smaller size.",
        "timeout": f"{_REFUNDED} It took longer than its steps and size allow: try fewer steps or a smaller size.",
        "graph_refused": f"{_REFUNDED} The workflow does not take these settings: try another sampler or scheduler.",
        "model_not_listed": _OPERATOR,
        "node_missing": _OPERATOR,
        "object_missing": _OPERATOR,
        "object_changed": _OPERATOR,
        "workflow_changed": _OPERATOR,
        "unknown_model": _OPERATOR,
        "stale": f"{_REFUNDED} No GPU took the job for a long time: tell an administrator.",
        "unknown_lora": f"{_REFUNDED} One of the LoRAs is gone: choose another.",
    }
)


def remedy(cause: str | None) -> str:
    """One sentence or two; what is not the curator's to mend passes by itself."""
    return REMEDIES.get(cause or "", _LATER)

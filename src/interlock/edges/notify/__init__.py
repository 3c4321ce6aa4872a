"""Who is told of alerts: webhooks, and their fake."""

from interlock.edges.notify.memory import MemoryReceivers
from interlock.edges.notify.webhooks import Webhook, Webhooks

__all__ = ["MemoryReceivers", "Webhook", "Webhooks"]

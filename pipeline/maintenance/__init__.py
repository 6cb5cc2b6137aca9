"""What a worker does beside its tasks: one duty per file, all run by the caretaker."""

from pipeline.maintenance.caretaker import Caretaker

__all__ = ["Caretaker"]

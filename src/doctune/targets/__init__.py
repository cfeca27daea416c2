"""What an answer is, without torch: one file a kind, and the settings that choose one."""

from doctune.targets.base import Target, TargetSettings, from_json
from doctune.targets.single import SingleTarget

__all__ = ["SingleTarget", "Target", "TargetSettings", "from_json"]

"""Frames to learn from: read, split by game, mirrored and checked."""

from model.data.descriptions import class_names
from model.data.frames import Frames, read_frames

__all__ = ["Frames", "class_names", "read_frames"]

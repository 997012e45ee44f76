"""Distillation: losses of a student against a teacher, and a teacher's stored answers."""

"""Learning from a teacher: another model's answers for the same pictures are part of the loss."""

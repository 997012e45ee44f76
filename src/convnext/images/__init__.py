"""Pictures: how they are read and what is done to them before a model sees them."""

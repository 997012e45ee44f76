"""The network in Keras: layers, blocks and models. No other package defines layers of it."""

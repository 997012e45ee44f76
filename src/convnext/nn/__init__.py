"""The network as Keras layers: the only room that defines them."""
